"""What the demo shows, as HTML. Whatever comes from a file name, a caption or a visitor is escaped."""

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

import torch
from PIL import Image

from fpig.gallery import Hit
from fpig.inspection import InspectedFrame

# What browsers play; of the others a picture is shown.
PLAYABLE_SUFFIXES = (".m4v", ".mov", ".mp4", ".ogv", ".webm")


def make_data_url(picture: torch.Tensor) -> str:
    """A picture [H, W, 3] uint8 as the source of an image."""
    buffer = io.BytesIO()
    Image.fromarray(picture.contiguous().numpy()).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def is_playable(path: Path) -> bool:
    """Whether browsers play such files, by the name; what is in them may be something else."""
    return path.suffix.lower() in PLAYABLE_SUFFIXES


def render_hit(hit: Hit, rank: int, picture: torch.Tensor | None) -> str:
    """
    A video that plays from its matched frame, its score and its name.

    Args:
        hit: what was found.
        rank: from 1.
        picture: its matched frame [H, W, 3] uint8, where no browser plays it.
    """
    name = escape(hit.video.path.name)
    if picture is None:
        media = (
            f'<video src="{make_video_url(hit)}#t={hit.seconds:.2f}" aria-label="{name}" '
            "autoplay muted loop controls playsinline></video>"
        )
    else:
        media = f'<img src="{make_data_url(picture)}" alt="frame of {name} at {hit.seconds:.2f} s">'
    return (
        f'<div class="hit">{media}<p><b>{rank}.</b> <span class="name">{name}</span><br>'
        f"score {hit.score:.3f}, from {hit.seconds:.2f} s</p></div>"
    )


def make_video_url(hit: Hit) -> str:
    """Where the page serves the file; relative, so that it works behind any prefix."""
    if hit.number is not None:
        return f"videos/{hit.number}"
    return escape(f"gradio_api/file={quote(str(hit.video.path))}")


def render_frames(frames: Sequence[InspectedFrame]) -> str:
    """The frames in order, each with its time and cosine; the best one is marked."""
    best = max(range(len(frames)), key=lambda number: frames[number].score)
    figures = []
    for number, frame in enumerate(frames):
        mark = ' class="best"' if number == best else ""
        label = f"{frame.seconds:.2f} s · {frame.score:.3f}{' · best match' if mark else ''}"
        alt = f"frame at {frame.seconds:.2f} s with {frame.num_selected} selected patches"
        figures.append(
            f'<figure{mark}><img src="{make_data_url(frame.picture)}" alt="{alt}">'
            f"<figcaption>{label}</figcaption></figure>"
        )
    return f'<div class="frames">{"".join(figures)}</div>'


def render_captions(captions: Sequence[tuple[str, float]]) -> str:
    """Captions and their cosines, best first."""
    items = [f"<li>{escape(caption)} <small>{score:.3f}</small></li>" for caption, score in captions]
    return f'<ol class="captions">{"".join(items)}</ol>'


__all__ = ["is_playable", "render_captions", "render_frames", "render_hit"]
