"""The page of the demo: search, look, ask why, bring a video."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
import uvicorn
from fastapi import FastAPI, HTTPException
from fastapi.responses import FileResponse

from fpig.demo_html import is_playable, render_captions, render_frames, render_hit
from fpig.gallery import MAX_QUERY_LENGTH, Gallery, Hit, Search
from fpig.index import VideoIndex
from fpig.inspection import inspect_frames, read_pictures
from fpig.search import VIDEO_SUFFIXES

NUM_HITS = 6
NUM_EXAMPLES = 4
NUM_NEAREST_CAPTIONS = 5
MAX_UPLOAD_SIZE = "200mb"
MAX_UPLOADS = 20
# Uploads are looked at every hour and removed after a day.
CACHE_SECONDS = (3_600, 86_400)
CSS = """
.hit video, .hit img {width: 100%; aspect-ratio: 4/3; object-fit: contain; background: #000}
.hit .name {overflow-wrap: anywhere}
.frames {display: grid; grid-template-columns: repeat(auto-fill, minmax(120px, 1fr)); gap: 8px}
.frames figure {margin: 0; border: 3px solid transparent}
.frames figure.best {border-color: #d97706}
.frames img {width: 100%; image-rendering: pixelated}
.frames figcaption {text-align: center; font-size: 85%}
"""
SCROLL = "() => document.getElementById('why').scrollIntoView({behavior: 'smooth'})"


class DemoPage:
    """
    What the page does with a gallery.

    A visitor's session holds the last `Search` and the videos that were brought; nothing is shared.
    """

    def __init__(self, gallery: Gallery) -> None:
        self.gallery = gallery

    def search(self, query: str, brought: list[VideoIndex]) -> list[Any]:
        """
        The last search of the session; for each place the video and whether its button is shown; and an empty
        answer instead of that to an earlier search.
        """
        search = self.gallery.search(query, brought, NUM_HITS)
        cells: list[Any] = []
        for rank in range(1, NUM_HITS + 1):
            if rank <= len(search.hits):
                hit = search.hits[rank - 1]
                cells += [self.show_hit(hit, rank, search), gr.Button(visible=True)]
            else:
                cells += ["", gr.Button(visible=False)]
        return [search, *cells, "", "", ""]

    def show_hit(self, hit: Hit, rank: int, search: Search) -> str:
        """The video, or its matched frame where browsers don't play it, or why there is neither."""
        if is_playable(hit.video.path):
            return render_hit(hit, rank, None)
        try:
            with hide_folder(hit):
                pictures = read_pictures(self.gallery.processor, hit.video.path)
        except ValueError as error:
            return f"<p><b>{rank}.</b> {escape(str(error))}</p>"
        picture = pictures[hit.video.match_frame(search.query_embed)].permute(1, 2, 0)
        return render_hit(hit, rank, picture)

    def explain(self, search: Search | None, rank: int) -> tuple[str, str, str]:
        """Heading, frames and captions for the video at a place of the last search, from 1."""
        if search is None or rank > len(search.hits):
            raise ValueError(f"`rank` is {rank}, and no search of yours is known that has it; search again")
        hit = search.hits[rank - 1]
        with hide_folder(hit):
            frames = inspect_frames(self.gallery.model, self.gallery.processor, hit.video, search.query_embed)
        name, query = escape(hit.video.path.name), escape(search.query)
        heading = f"<h2>Why {name}?</h2><p>Under each frame: when it is shown, and its cosine with “{query}”."
        if hit.video.pseudo_query_embed is None:
            pooling = self.gallery.model.config.video_pooling
            text = f"This model has neither token selector nor pseudo-query: `video_pooling` is '{pooling}'."
            return f"{heading}</p>", render_frames(frames), f"<p>{escape(text)}</p>"
        num_selected = sum(frame.num_selected for frame in frames)
        heading += (
            f" The {num_selected} patches that the token selector chose are in full light. From them and "
            "a summary of each frame, the pseudo-query was written before your sentence was known.</p>"
        )
        return heading, render_frames(frames), self.explain_pseudo_query(hit)

    def explain_pseudo_query(self, hit: Hit) -> str:
        """The captions nearest to it, or why there are none."""
        if not self.gallery.captions:
            return "<p>No captions to compare its pseudo-query with: start the demo with --captions FILE.</p>"
        nearest = self.gallery.find_nearest_captions(hit.video, NUM_NEAREST_CAPTIONS)
        return f"<h3>Captions nearest to its pseudo-query</h3>{render_captions(nearest)}"

    def take_in(self, path: str | None, brought: list[VideoIndex]) -> tuple[list[VideoIndex], str]:
        """
        The session's own videos with one more, and what to say of it.

        Raises:
            ValueError: none, too many, or it can't be read.
        """
        if path is None:
            raise ValueError("`path` is None; choose a video")
        if len(brought) >= MAX_UPLOADS:
            raise ValueError(f"`brought` has {MAX_UPLOADS} videos, which a visit allows; load the page again")
        brought = [*brought, self.gallery.take_in(Path(path))]
        if not is_playable(Path(path)):
            read_pictures(self.gallery.processor, Path(path))  # now, and not while others wait for a search
        total = len(self.gallery.index) + len(brought)
        return brought, f"<p><b>{escape(Path(path).name)}</b> is among the {total} videos you search now.</p>"


@contextmanager
def hide_folder(hit: Hit) -> Iterator[None]:
    """
    Raises:
        ValueError: the file can't be read any more; the message names it without its folder.
    """
    try:
        yield
    except ValueError as error:
        raise ValueError(str(error).replace(str(hit.video.path), hit.video.path.name)) from error


def show_errors(handle: Callable[..., Any]) -> Callable[..., Any]:
    """Errors of a handler as messages on the page, which takes them for HTML."""

    def wrapped(*values: Any) -> Any:
        try:
            return handle(*values)
        except (OSError, ValueError) as error:
            raise gr.Error(escape(str(error)), print_exception=False) from error

    return wrapped


def build_page(gallery: Gallery) -> gr.Blocks:
    """The page, to be mounted where `videos/N` serves the files of the gallery's index."""
    demo = DemoPage(gallery)
    title = f"{len(gallery.index)} videos to search"
    with gr.Blocks(title="F-Pig", analytics_enabled=False, delete_cache=CACHE_SECONDS) as page:
        last_search, brought = gr.State(None), gr.State([])
        gr.HTML(f"<h1>{title}</h1>")
        with gr.Row():
            query = gr.Textbox(
                label="Sentence",
                placeholder="What happens in the video?",
                max_length=MAX_QUERY_LENGTH,
                max_lines=1,
                scale=4,
                autofocus=True,
            )
            button = gr.Button("Search", variant="primary", min_width=100)
            upload = gr.UploadButton("Bring a video", file_types=list(VIDEO_SUFFIXES), min_width=100)
        searches = [button.click, query.submit]
        if gallery.captions:
            step = max(1, len(gallery.captions) // NUM_EXAMPLES)
            captions = [[caption] for caption in gallery.captions[::step][:NUM_EXAMPLES]]
            examples = gr.Examples(captions, query, label="For example")
            searches.append(examples.load_input_event.success)
        message = gr.HTML("")
        with gr.Row():
            places = [build_place(rank) for rank in range(1, NUM_HITS + 1)]
        with gr.Column(elem_id="why"):
            answer = [gr.HTML(""), gr.HTML(""), gr.HTML("")]

        results = [last_search, *(component for place in places for component in place), *answer]
        answers = []
        for rank, (_, why) in enumerate(places, start=1):
            explain = show_errors(lambda search, rank=rank: demo.explain(search, rank))
            answers.append(why.click(explain, last_search, answer))
            answers[-1].success(None, js=SCROLL)
        for search in searches:  # an answer to an earlier search would come too late
            search(show_errors(demo.search), [query, brought], results, cancels=answers)
        upload.upload(show_errors(demo.take_in), [upload, brought], [brought, message])
    return page


def build_place(rank: int) -> tuple[gr.HTML, gr.Button]:
    """Where the video of a rank is shown, and the button that asks why."""
    with gr.Column(min_width=240):
        return gr.HTML(""), gr.Button(f"Why number {rank}?", visible=False, size="sm")


def build_app(gallery: Gallery) -> FastAPI:
    """The page and the gallery's files, and nothing else of this machine."""
    app = FastAPI(openapi_url=None)  # nor a page of documentation

    @app.api_route("/videos/{number}", methods=["GET", "HEAD"])
    def send_video(number: int) -> FileResponse:
        paths = gallery.index.paths
        if not 0 <= number < len(paths) or not paths[number].is_file():
            raise HTTPException(404)
        # A file that only calls itself a video must not become a page.
        return FileResponse(paths[number], headers={"X-Content-Type-Options": "nosniff"})

    page = build_page(gallery)
    # Or gradio would take the path of any file here for an upload: of a mounted page it checks none.
    page.has_launched = True
    fonts = ("system-ui", "sans-serif")
    return gr.mount_gradio_app(
        app,
        page,
        path="",
        max_file_size=MAX_UPLOAD_SIZE,
        theme=gr.themes.Default(font=fonts, font_mono=("monospace",)),
        css=CSS,
        ssr_mode=False,
        footer_links=[],
    )


def serve(gallery: Gallery, reserved: socket.socket) -> None:
    """Serves the page on a bound socket until it is interrupted."""
    # A page that is open keeps a connection, which would keep the server alive.
    config = uvicorn.Config(build_app(gallery), log_level="warning", timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[reserved])


__all__ = ["build_app", "serve"]
