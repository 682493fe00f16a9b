"""Pictures of an evaluation: recall curves, and what a few queries found as strips of frames."""

import textwrap
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from transformers import ProcessorMixin

    from fpig.datasets import CaptionedVideo
    from fpig.evaluation import RetrievalResults

RIGHT_COLOR, WRONG_COLOR = "#1a7f37", "#cf222e"
MAX_RANK = 50


@dataclass(frozen=True)
class Retrieval:
    """One query's best videos, best first, as indices, and the rank of the true one."""

    query: str
    video_indices: list[int]
    scores: list[float]
    true_index: int
    true_rank: int


def check_matplotlib() -> None:
    """
    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        raise ModuleNotFoundError(
            "`matplotlib` is not installed and draws the picture; `pip install 'fpig[figures]'`, or pass "
            "`--no_figure`"
        )


def pick_retrievals(results: "RetrievalResults", num_queries: int = 4, top_k: int = 5) -> list[Retrieval]:
    """What captions, spread evenly over all, have found: not the best of them, and not the worst."""
    num_queries = min(num_queries, len(results.captions))
    chosen = np.linspace(0, len(results.captions) - 1, num_queries).astype(int).tolist()
    retrievals = []
    for index in chosen:
        scores = results.video_embeds @ results.text_embeds[index]
        best = scores.sort(descending=True, stable=True).indices[:top_k]
        retrievals.append(
            Retrieval(
                query=results.captions[index],
                video_indices=best.tolist(),
                scores=scores[best].tolist(),
                true_index=int(results.caption_video_indices[index]),
                true_rank=int(results.ranks.t2v[index]),
            )
        )
    return retrievals


def draw_evaluation(
    results: "RetrievalResults",
    records: "list[CaptionedVideo]",
    processor: "ProcessorMixin",
    path: Path,
    title: str,
    num_queries: int = 4,
) -> None:
    """
    Writes a picture of an evaluation.

    Args:
        results: of `evaluate_retrieval`.
        records: the videos that it was given.
        processor: the model's; the strips show what the model sees.
        path: the PNG file to write.
        title: above everything.
        num_queries: captions whose best videos are shown.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    check_matplotlib()
    from matplotlib.figure import Figure

    retrievals = pick_retrievals(results, num_queries)
    figure = Figure(figsize=(15, 4 + 2.1 * len(retrievals)), layout="constrained")
    figure.suptitle(title, parse_math=False)
    upper, lower = figure.subfigures(2, 1, height_ratios=[4, 2.1 * len(retrievals)])
    draw_recall_curves(upper, results)
    rows = lower.subfigures(len(retrievals), 1, squeeze=False)[:, 0]
    for row, retrieval in zip(rows, retrievals, strict=True):
        draw_retrieval(row, retrieval, records, processor)
    figure.savefig(path, dpi=100)


def compute_recalls(ranks: np.ndarray, max_rank: int) -> np.ndarray:
    """Recall at 1, 2, … `max_rank` in percent."""
    return 100 * np.array([np.count_nonzero(ranks <= k) for k in range(1, max_rank + 1)]) / len(ranks)


def draw_recall_curves(figure: "Figure", results: "RetrievalResults") -> None:
    """Recall over K, one panel for each direction, with chance for comparison."""
    num_videos = len(results.video_embeds)
    directions = (("text → video", results.ranks.t2v), ("video → text", results.ranks.v2t))
    for axes, (name, ranks) in zip(figure.subplots(1, 2), directions, strict=True):
        num_candidates = num_videos if name == "text → video" else len(ranks)
        max_rank = min(MAX_RANK, num_candidates)
        ks = np.arange(1, max_rank + 1)
        recalls = compute_recalls(ranks, max_rank)
        axes.plot(ks, recalls, marker="." if max_rank <= 10 else "", label="measured")
        axes.plot(ks, 100 * ks / num_candidates, linestyle=":", color="gray", label="chance")
        for k in (1, 5, 10):
            if k <= max_rank:
                axes.annotate(
                    f"R@{k} {recalls[k - 1]:.1f}",
                    (k, recalls[k - 1]),
                    xytext=(5, -10),
                    textcoords="offset points",
                    fontsize=8,
                )
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set(title=name, xlabel="K", ylabel="recall at K (%)", ylim=(0, 105))
        axes.grid(alpha=0.3)
        axes.legend(loc="lower right")


def draw_retrieval(
    figure: "Figure", retrieval: Retrieval, records: "list[CaptionedVideo]", processor: "ProcessorMixin"
) -> None:
    """One query's row: a strip of frames for each video found, framed green if it is the true one."""
    query = textwrap.shorten(retrieval.query, width=140, placeholder=" …")
    figure.suptitle(
        f"“{query}”   true video: rank {retrieval.true_rank}",
        fontsize=10,
        x=0.01,
        ha="left",
        parse_math=False,
    )
    all_axes = figure.subplots(1, len(retrieval.video_indices), squeeze=False)[0]
    for rank, axes in enumerate(all_axes, start=1):
        index = retrieval.video_indices[rank - 1]
        is_right = index == retrieval.true_index
        draw_strip(axes, make_strip(records[index].video, processor), is_right)
        mark = "right" if is_right else "wrong"
        axes.set_title(
            f"{rank}: {mark}, {retrieval.scores[rank - 1]:.3f}",
            fontsize=9,
            color=RIGHT_COLOR if is_right else WRONG_COLOR,
        )


def draw_strip(axes: "Axes", strip: np.ndarray, is_right: bool) -> None:
    """A picture in a thick frame."""
    axes.imshow(strip)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set(color=RIGHT_COLOR if is_right else WRONG_COLOR, linewidth=3)


def make_strip(video: str | bytes, processor: "ProcessorMixin", num_frames: int = 4) -> np.ndarray:
    """Frames of a video as the model sees them, side by side: [S, num_frames · S, 3] in [0, 1]."""
    pixel_values = processor(videos=[video], videos_kwargs={"num_frames": num_frames})["pixel_values"][0]
    mean = np.array(processor.video_processor.image_mean)
    std = np.array(processor.video_processor.image_std)
    frames = pixel_values.permute(0, 2, 3, 1).numpy() * std + mean  # [T, S, S, 3]
    return np.concatenate(list(frames), axis=1).clip(0, 1)


__all__ = ["Retrieval", "check_matplotlib", "draw_evaluation", "pick_retrievals"]
