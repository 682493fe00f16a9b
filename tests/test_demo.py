"""The demo but for its page: what it searches, how it explains, and what its command refuses."""

import csv
import os
import re
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from toys import CAPTIONS, make_model, make_records, write_clip

from fpig import demo
from fpig.demo_html import make_video_url, render_captions, render_hit
from fpig.demo_page import MAX_UPLOADS, DemoPage
from fpig.embedding import embed_captions, embed_videos
from fpig.gallery import Gallery, Hit
from fpig.index import fingerprint_model, index_videos, save_index
from fpig.inspection import draw_selection, inspect_frames, locate_patches, read_pictures
from fpig.search import find_videos

ROOT = Path(__file__).parents[1]
QUERY = "two balls"


@pytest.fixture
def videos_dir(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    for seed in range(4):
        write_clip(folder / f"{seed}.mp4", seed, num_frames=8 + seed)
    return folder


@pytest.fixture
def gallery(model, processor, videos_dir):
    return Gallery(model, processor, index_videos(model, processor, find_videos(videos_dir)), CAPTIONS)


def load(*arguments):
    return demo.load_gallery(demo.parse_arguments([str(argument) for argument in arguments]))


def test_search_ranks_the_hosts_videos_and_the_visitors_together(gallery, model, processor, tmp_path):
    mine = write_clip(tmp_path / "mine.mp4", 8, num_frames=20)
    brought = [gallery.take_in(mine)]
    search = gallery.search(QUERY, brought, top_k=4)
    paths = [*gallery.index.paths, mine]
    query_embed = embed_captions(model, processor, [QUERY])[0]
    scores = (embed_videos(model, processor, paths) @ query_embed).tolist()
    best = sorted(range(5), key=lambda number: -scores[number])[:4]
    assert [hit.video.path for hit in search.hits] == [paths[number] for number in best]
    assert [hit.score for hit in search.hits] == pytest.approx([scores[number] for number in best], abs=1e-6)
    assert [hit.number for hit in search.hits] == [number if number < 4 else None for number in best]
    assert 4 in best
    for hit in search.hits:
        number = int((hit.video.frame_embeds @ query_embed).argmax())
        assert hit.seconds == hit.video.frame_seconds[number]
    assert len({hit.seconds for hit in search.hits}) > 1
    assert mine not in [hit.video.path for hit in gallery.search(QUERY, [], top_k=9).hits]


def test_captions_nearest_to_a_pseudo_query(gallery, model, processor):
    video = gallery.index[1]
    pixel_values = processor(videos=str(video.path))["pixel_values"]
    with torch.no_grad():
        pseudo_query = model.get_video_features(pixel_values, return_dict=True).pseudo_query
        cosines = torch.cosine_similarity(model.encode_text(**processor(text=list(CAPTIONS))), pseudo_query)
    expected = sorted(zip(CAPTIONS, cosines.tolist(), strict=True), key=lambda pair: -pair[1])[:3]
    nearest = gallery.find_nearest_captions(video, 3)
    assert [caption for caption, _ in nearest] == [caption for caption, _ in expected]
    assert [cosine for _, cosine in nearest] == pytest.approx([cosine for _, cosine in expected], abs=1e-5)


def test_bad_queries_and_videos_are_errors(gallery, tmp_path):
    with pytest.raises(ValueError, match="`query` is '  '; say what to look for"):
        gallery.search("  ", [], 3)
    with pytest.raises(ValueError, match="`query` has 501 characters; at most 500 are allowed"):
        gallery.search("x" * 501, [], 3)
    (tmp_path / "bad.mp4").write_text("no video")
    with pytest.raises(ValueError, match=r"^can't read the video `bad\.mp4`: it is damaged"):
        gallery.take_in(tmp_path / "bad.mp4")


def test_selected_patches_are_found_again(model):
    """Two global tokens and the class token, then frames of one frame token and 3 × 3 patches."""
    is_selected = locate_patches(model, [4, 12, 14, 42], num_frames=4)
    assert is_selected.shape == (4, 3, 3)
    places = {tuple(place) for place in is_selected.nonzero().tolist()}
    assert places == {(0, 0, 0), (0, 2, 2), (1, 0, 0), (3, 2, 2)}


def test_selected_patches_keep_their_light_within_an_edge():
    pictures = torch.full((2, 3, 21, 21), 100, dtype=torch.uint8)  # the last pixel belongs to no patch
    is_selected = torch.zeros(2, 2, 2, dtype=torch.bool)
    is_selected[1, 0, 1] = True
    drawn = draw_selection(pictures, is_selected, patch_size=10)
    assert (drawn[0] == 35).all()
    assert (drawn[1, :, 2:8, 12:18] == 100).all()
    edge = torch.tensor((255, 214, 0)).view(3, 1)
    assert (drawn[1, :, 0, 10:20] == edge).all()
    assert (drawn[1, :, 9, 10:20] == edge).all()
    assert (drawn[1, :, :10, 11] == edge).all()
    assert (drawn[1, :, :, :10] == 35).all()
    assert (drawn[1, :, 10:] == 35).all()
    assert (drawn[1, :, :, 20] == 35).all()


def test_inspected_frames_are_what_the_model_saw(gallery, model, processor):
    video = gallery.index[2]
    query_embed = embed_captions(model, processor, [QUERY])[0]
    frames = inspect_frames(model, processor, video, query_embed)
    pictures = read_pictures(processor, video.path)
    assert pictures.shape == (4, 3, 240, 240)
    seen = processor.video_processor.make_pictures(processor(videos=str(video.path))["pixel_values"][0])
    assert torch.equal(pictures[:, :, 5::10, 5::10], seen)
    assert sum(frame.num_selected for frame in frames) == model.config.num_selected_tokens
    first = model.config.num_global_tokens
    for number, frame in enumerate(frames):
        assert frame.picture.shape == (240, 240, 3)
        assert frame.seconds == video.frame_seconds[number]
        assert frame.score == pytest.approx(float(video.frame_embeds[number] @ query_embed), abs=1e-6)
        for patch in range(9):
            row, column = 80 * (patch // 3) + 40, 80 * (patch % 3) + 40
            pixel, original = frame.picture[row, column], pictures[number, :, row, column]
            is_selected = first + 10 * number + 1 + patch in video.selected_token_indices
            assert torch.equal(pixel, original if is_selected else (original * 0.35).to(torch.uint8))


def test_baselines_are_shown_without_a_selection(processor, videos_dir):
    model = make_model(processor, video_pooling="mean")
    gallery = Gallery(model, processor, index_videos(model, processor, find_videos(videos_dir)), CAPTIONS)
    page = DemoPage(gallery)
    search = page.search(QUERY, [])[0]
    heading, frames, captions = page.explain(search, 1)
    assert "patches" not in heading
    assert frames.count(" with 0 selected patches") == 4
    expected = "This model has neither token selector nor pseudo-query: `video_pooling` is 'mean'."
    assert parse_html(captions) == (["p"], [], expected)


def test_without_captions_the_page_says_how_to_get_them(gallery):
    page = DemoPage(Gallery(gallery.model, gallery.processor, gallery.index, []))
    assert "--captions FILE" in page.explain(page.search(QUERY, [])[0], 1)[2]


def test_a_page_that_lost_its_search_says_so(gallery):
    page = DemoPage(gallery)
    with pytest.raises(ValueError, match="`rank` is 2, and no search of yours is known that has it"):
        page.explain(None, 2)
    search = page.search(QUERY, [])[0]
    with pytest.raises(ValueError, match="`rank` is 5"):
        page.explain(search, 5)


def test_a_video_that_is_gone_is_named_without_its_folder(gallery):
    page = DemoPage(gallery)
    search = page.search(QUERY, [])[0]
    path = search.hits[0].video.path
    path.unlink()
    with pytest.raises(ValueError, match=f"`{path.name}`") as caught:
        page.explain(search, 1)
    assert str(path.parent) not in str(caught.value)


def test_a_search_goes_on_without_a_video_that_is_gone(model, processor, videos_dir):
    (videos_dir / "3.mp4").rename(videos_dir / "3.avi")
    page = DemoPage(Gallery(model, processor, index_videos(model, processor, find_videos(videos_dir)), []))
    (videos_dir / "3.avi").unlink()
    cells = page.search(QUERY, [])[1:9:2]
    assert [cell.startswith('<div class="hit">') for cell in cells].count(True) == 3
    missing = next(cell for cell in cells if "3.avi" in cell)
    assert "can&#x27;t read the video `3.avi`: there is no such file" in missing
    assert str(videos_dir) not in missing


def test_what_no_browser_sends_is_an_error(gallery):
    page = DemoPage(gallery)
    with pytest.raises(ValueError, match="`query` is None; say what to look for"):
        page.search(None, [])
    with pytest.raises(ValueError, match=r"`query` is 'a\\udcff', which is no Unicode text"):
        page.search("a\udcff", [])
    with pytest.raises(ValueError, match="`path` is None; choose a video"):
        page.take_in(None, [])


def test_a_visit_takes_a_limited_number_of_videos(gallery, tmp_path):
    page, brought = DemoPage(gallery), []
    path = str(write_clip(tmp_path / "mine.mp4", 8))
    for number in range(MAX_UPLOADS):
        brought, message = page.take_in(path, brought)
        assert message == f"<p><b>mine.mp4</b> is among the {5 + number} videos you search now.</p>"
    with pytest.raises(ValueError, match="`brought` has 20 videos, which a visit allows"):
        page.take_in(path, brought)


def parse_html(html):
    """Its tags, the texts that stand for pictures, and what is read."""
    tags, labels, texts = [], [], []
    parser = HTMLParser()

    def add_tag(tag, attributes):
        tags.append(tag)
        labels.extend(value for name, value in attributes if name in ("alt", "aria-label"))

    parser.handle_starttag, parser.handle_data = add_tag, texts.append
    parser.feed(html)
    return tags, labels, "".join(texts)


def test_names_and_captions_are_text_and_no_html(gallery, videos_dir):
    evil = "<script>alert(1)</script>\"'&.mp4"
    path = videos_dir / evil.replace("/", "∕")
    hit = Hit(index_videos(gallery.model, gallery.processor, [write_clip(path, 0)])[0], None, 0.5, 0.25)
    for html in (render_hit(hit, 1, None), render_hit(hit, 1, torch.zeros(2, 2, 3, dtype=torch.uint8))):
        tags, labels, text = parse_html(html)
        assert set(tags) <= {"div", "video", "img", "p", "b", "span", "br"}
        assert [path.name in label for label in labels] == [True]
        assert path.name in text
    assert set(make_video_url(hit)) & set("<>\"' ") == set()
    assert parse_html(render_captions([(evil, 0.5)])) == (["ol", "li", "small"], [], f"{evil} 0.500")


def test_a_folder_an_index_and_captioned_videos(release, model, processor, videos_dir, tmp_path):
    captions = tmp_path / "captions.txt"
    captions.write_text("\ufeffa ball\n\n  a star \na ball\n", encoding="utf-8")
    gallery = load(release, videos_dir, "--captions", captions)
    assert gallery.captions == ["a ball", "a star"]
    assert [path.name for path in gallery.index.paths] == ["0.mp4", "1.mp4", "2.mp4", "3.mp4"]

    save_index(gallery.index, tmp_path / "kept", fingerprint_model(model, processor))
    again = load(release, tmp_path / "kept")
    assert torch.equal(again.index.embeds, gallery.index.embeds)
    assert again.captions == []

    (tmp_path / "captioned").mkdir()
    records = make_records(tmp_path / "captioned", num_videos=4)
    with (tmp_path / "captioned" / "metadata.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", "caption", "split"])
        for number, record in enumerate(records):
            writer.writerows(
                [record.video_id, text, ("train", "test")[number % 2]] for text in record.captions
            )
    gallery = load(release, tmp_path / "captioned", "--split", "test")
    assert [path.name for path in gallery.index.paths] == ["1.mp4", "3.mp4"]
    assert gallery.captions == list(dict.fromkeys([*records[1].captions, *records[3].captions]))
    assert load(release, tmp_path / "captioned", "--captions", captions).captions == ["a ball", "a star"]


def test_bad_arguments_are_errors(release, videos_dir, tmp_path):
    with pytest.raises(ValueError, match="`--split` is test, and `.*videos` has no splits; leave it out"):
        load(release, videos_dir, "--split", "test")
    for captions, reason in ((tmp_path / "none.txt", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(OSError, match=rf"`--captions` is {captions}, which can't be read \({reason}"):
            load(release, videos_dir, "--captions", captions)
    (tmp_path / "empty.txt").write_text("\n \n")
    with pytest.raises(
        ValueError, match=r"`--captions` is .*empty.txt, which has no caption; write one a line"
    ):
        load(release, videos_dir, "--captions", tmp_path / "empty.txt")
    (tmp_path / "latin.txt").write_bytes("né".encode("latin-1"))
    with pytest.raises(ValueError, match=r"`--captions` is .*latin.txt, which is not UTF-8 text"):
        load(release, videos_dir, "--captions", tmp_path / "latin.txt")
    with demo.reserve_port("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            OSError, match=f"`--host` 127.0.0.1 and `--port` {port} can't be used .*choose others"
        ):
            demo.reserve_port("127.0.0.1", port)
    with pytest.raises(OSError, match="`--host` 192.0.2.1 and `--port` 0 can't be used"):
        demo.reserve_port("192.0.2.1", 0)


def test_the_page_needs_gradio(monkeypatch):
    monkeypatch.setattr(demo, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"`gradio` is not installed .*pip install 'fpig\[demo\]'"):
        demo.require_gradio()


def run(*arguments, **environment):
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, env=os.environ | environment
    )


def test_command_ends_in_one_line_on_bad_input(release, tmp_path):
    for arguments, message in (
        ((release, tmp_path), f"error: `{tmp_path}` has no video"),
        (("nowhere", tmp_path / "none"), "error: "),
    ):
        done = run("-m", "fpig", "demo", *arguments, "--port", "0")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(message)
        assert done.stderr.count("\n") == 1
    done = run("-m", "fpig", "demo", release, tmp_path, "--port", "70000")
    assert done.returncode == 2
    assert "`--port` is 70000; it must be between 0 and 65535" in done.stderr


def test_help_is_quick():
    start = time.monotonic()
    done = run("-m", "fpig", "demo", "--help")
    assert (done.returncode, time.monotonic() - start < 3) == (0, True)
    assert "a folder of videos; an index made by fpig index" in done.stdout


def test_a_space_needs_its_settings(release, videos_dir):
    done = run(ROOT / "app.py", FPIG_MODEL=str(release), FPIG_VIDEOS="")
    assert (done.returncode, done.stderr.startswith("error: `FPIG_VIDEOS` is not set")) == (1, True)
    environment = {
        "FPIG_MODEL": str(release),
        "FPIG_VIDEOS": str(videos_dir),
        "FPIG_REVISION": "main",
        "PORT": "0",
    }
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "app.py")],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert re.fullmatch(r"4 videos: http://0\.0\.0\.0:\d+\n", process.stdout.readline())
    finally:
        process.terminate()
        process.wait(timeout=60)
