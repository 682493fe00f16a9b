"""
Finds videos of a folder by a sentence.

    fpig search FOLDER VIDEOS_DIR "a red circle moving left"
"""

import argparse
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, ProcessorMixin

# fmt: off
VIDEO_SUFFIXES = (
    ".3gp", ".asf", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts",
    ".ogv", ".ts", ".webm", ".wmv",
)
# fmt: on
SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class FoundVideo:
    """A video and the cosine of its embedding and the query's."""

    path: Path
    score: float


def find_videos(folder: Path) -> list[Path]:
    """
    All video files of a folder and its subfolders, linked ones too, by their suffixes, in alphabetical order.

    Raises:
        FileNotFoundError: no such folder, or no video in it.
        ValueError: a name that is no UTF-8, which nothing could print or keep.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"`{folder}` is not a folder; pass the folder that holds the videos")
    files = (Path(subfolder, name) for subfolder, names in walk_folders(folder) for name in names)
    paths = sorted(path for path in files if path.suffix.lower() in VIDEO_SUFFIXES)
    paths = [path for path in paths if path.is_file()]
    if not paths:
        raise FileNotFoundError(
            f"`{folder}` has no video; files with one of these suffixes are taken: {' '.join(VIDEO_SUFFIXES)}"
        )
    for path in paths:
        if has_surrogates(str(path)):
            raise ValueError(f"`{str(path)!a}` is not named in UTF-8; rename it")
    return paths


def walk_folders(top: Path) -> Iterator[tuple[str, list[str]]]:
    """
    A folder and those in it, with the names of their files: each once, however many links lead to it, and
    linked ones after those that are in it without a link.
    """
    visited: set[str] = set()
    tops = [str(top)]
    for linked in tops:  # which grows meanwhile
        for folder, subfolders, names in os.walk(linked):
            path = os.path.realpath(folder)
            if path in visited:
                subfolders.clear()
                continue
            visited.add(path)
            subfolders.sort()
            paths = [os.path.join(folder, subfolder) for subfolder in subfolders]
            tops += [path for path in paths if os.path.islink(path)]
            yield folder, sorted(names)


def search_videos(
    model: "PreTrainedModel",
    processor: "ProcessorMixin",
    paths: list[Path],
    query: str,
    batch_size: int = 32,
    num_workers: int = 0,
) -> tuple[list[FoundVideo], dict[Path, Exception]]:
    """
    Ranks videos by a query.

    Args:
        model: an `FPigModel`.
        processor: the model's.
        paths: at least one.
        query: a sentence.
        batch_size: videos encoded together.
        num_workers: processes that decode beside this one.

    Returns:
        The readable videos, best first, equals in the order of `paths`; and why the others can't be read.

    Raises:
        ValueError: an empty query, no paths, or none of them can be read.
    """
    import torch

    from fpig.embedding import embed_captions, embed_video_batches

    check_query(query)
    query_embed = embed_captions(model, processor, [query])[0]
    batches = list(embed_video_batches(model, processor, [str(p) for p in paths], batch_size, num_workers))
    unreadable = {paths[index]: error for batch in batches for index, error in batch.errors.items()}
    readable = [paths[index] for batch in batches for index in batch.indices]
    if not readable:
        reason = next(iter(unreadable.values()))
        raise ValueError(f"`paths` has {len(paths)} videos and none can be read; the first: {reason}")
    ranking = rank_embeds(torch.cat([batch.embeds for batch in batches]), query_embed)
    return [FoundVideo(readable[index], score) for index, score in ranking], unreadable


def rank_embeds(embeds: "torch.Tensor", query_embed: "torch.Tensor") -> list[tuple[int, float]]:
    """
    Rows of unit vectors [N, D] and their cosines with a unit vector [D], best first, equals in order.

    Raises:
        ValueError: a vector is not finite; NaN would come before all others.
    """
    if not query_embed.isfinite().all():
        raise ValueError(
            "`query_embed` holds NaN or infinity, which has no rank; embed it with a sound model"
        )
    # A matrix product may round equal rows differently; sums of products are the same for every row.
    scores = (embeds * query_embed).sum(dim=-1)
    if not scores.isfinite().all():  # a look at all of `embeds` would take longer than the scores
        row = scores.isfinite().tolist().index(False)
        raise ValueError(
            f"`embeds[{row}]` holds NaN or infinity, which has no rank; embed it with a sound model"
        )
    ordered = scores.sort(descending=True, stable=True)
    return list(zip(ordered.indices.tolist(), ordered.values.tolist(), strict=True))


def check_query(query: str) -> None:
    """
    Raises:
        ValueError: nothing but white space, or no text.
    """
    if not isinstance(query, str) or not query.strip():
        raise ValueError(f"`query` is {query!r}; say what to look for")
    if has_surrogates(query):
        raise ValueError(f"`query` is {query!a}, which is no Unicode text; type it in UTF-8")


def has_surrogates(text: str) -> bool:
    """
    Whether it holds half a character of UTF-16, as JSON may, or a byte that is no UTF-8, as Python keeps it
    in file names and arguments.
    """
    return SURROGATE.search(text) is not None


def add_encoder_arguments(parser: argparse.ArgumentParser) -> None:
    """What every command takes that embeds videos: the model first, and how to load and feed it."""
    parser.add_argument("model", metavar="FOLDER", help="trained model: a folder, or a repository of the Hub")
    parser.add_argument("--batch_size", type=int, default=32, help="videos at once (default: %(default)s)")
    parser.add_argument(
        "--num_workers", type=int, default=0, help="decoding processes (default: %(default)s)"
    )
    parser.add_argument("--revision", help="branch, tag or commit of the repository")
    parser.add_argument("--trust_remote_code", action="store_true", help="run the code of the repository")


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="fpig search", description="Find videos by a sentence.")
    add_encoder_arguments(parser)
    parser.add_argument(
        "videos_dir", metavar="VIDEOS_DIR", type=Path, help="searched with all subfolders, linked ones too"
    )
    parser.add_argument("query", metavar="QUERY", help="a sentence")
    parser.add_argument("--top_k", type=int, default=10, help="videos printed (default: %(default)s)")
    parsed = parser.parse_args(arguments)
    if parsed.top_k < 1:
        parser.error(f"`--top_k` is {parsed.top_k}; it must be at least 1")
    return parsed


def main(arguments: list[str] | None = None) -> None:
    """Prints rank, score and file, best first; what can't be read goes to stderr."""
    options = parse_arguments(arguments)
    try:
        check_query(options.query)
        paths = find_videos(options.videos_dir)
        # Only now, and not at the top: it takes seconds, in which a typing error can be told.
        from fpig.embedding import load_encoder

        model, processor = load_encoder(options.model, options.revision, options.trust_remote_code)
        found, unreadable = search_videos(
            model, processor, paths, options.query, options.batch_size, options.num_workers
        )
    except (OSError, ValueError) as error:
        raise SystemExit(f"error: {' '.join(str(error).split())}") from error
    for error in unreadable.values():
        sys.stderr.write(f"skipped: {error}\n")
    for rank, video in enumerate(found[: options.top_k], start=1):
        sys.stdout.write(f"{rank:>3}  {video.score:.4f}  {video.path}\n")


__all__ = [
    "FoundVideo",
    "add_encoder_arguments",
    "find_videos",
    "rank_embeds",
    "search_videos",
    "walk_folders",
]

if __name__ == "__main__":
    main()
