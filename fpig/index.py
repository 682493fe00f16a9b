"""
Keeps what a model found in videos, so that each is encoded once.

    fpig index FOLDER VIDEOS_DIR INDEX_DIR

The rows are a `datasets.Dataset`: `video` (path, from the folder of the index), `embeds` [D], `frame_embeds`
[T, D] (unit vectors of the frame tokens), `frame_seconds` [T]; with F-Pig also `pseudo_query_embeds` [D] and
`selected_token_indices` [K].
"""

import argparse
import hashlib
import json
import os
import shutil
import sys
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fpig.search import VIDEO_SUFFIXES, add_encoder_arguments, find_videos, rank_embeds

if TYPE_CHECKING:
    import torch
    from datasets import Dataset
    from transformers import PreTrainedModel, ProcessorMixin

    from fpig.embedding import VideoBatch

RECORD_NAME = "index.json"
COLUMNS = {"embeds", "frame_embeds", "frame_seconds"}  # of every index
# What a configuration says of the file it came from, and not of the model.
PROVENANCE = ("_name_or_path", "architectures", "auto_map", "dtype", "transformers_version")


@dataclass(frozen=True)
class IndexedVideo:
    """
    One row of an index.

    Attributes:
        path: the file.
        frame_embeds: unit vectors of the frame tokens [T, D].
        frame_seconds: when each of these frames is shown.
        pseudo_query_embed: unit vector [D]; `None` for the baselines.
        selected_token_indices: positions of the K selected patches among all tokens, best first; `None` for
            the baselines.
    """

    path: Path
    frame_embeds: "torch.Tensor"
    frame_seconds: list[float]
    pseudo_query_embed: "torch.Tensor | None"
    selected_token_indices: list[int] | None

    def match_frame(self, query_embed: "torch.Tensor") -> int:
        """The frame whose token is nearest to a query's embedding [D]; of equal ones the first."""
        return rank_embeds(self.frame_embeds, query_embed)[0][0]


@dataclass(frozen=True)
class VideoIndex:
    """
    Embedded videos.

    Attributes:
        dataset: one row per readable video; see the top of this file.
        paths: where each of them is.
        unreadable: path → why it is not among them.
    """

    dataset: "Dataset"
    paths: list[Path]
    unreadable: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> IndexedVideo:
        row = self.dataset.with_format("torch")[number]
        indices = row.get("selected_token_indices")
        return IndexedVideo(
            path=self.paths[number],
            frame_embeds=row["frame_embeds"],
            frame_seconds=row["frame_seconds"].tolist(),
            pseudo_query_embed=row.get("pseudo_query_embeds"),
            selected_token_indices=None if indices is None else indices.tolist(),
        )

    @cached_property
    def embeds(self) -> "torch.Tensor":
        """Unit vectors of all videos [V, D]."""
        return self.dataset.with_format("torch")["embeds"][:]


def index_videos(
    model: "PreTrainedModel",
    processor: "ProcessorMixin",
    paths: list[Path],
    batch_size: int = 32,
    num_workers: int = 0,
) -> VideoIndex:
    """
    Embeds videos, with all that explains a result.

    Arguments as in `fpig.embedding.embed_videos`.

    Raises:
        ValueError: no paths, or none of them can be read.
    """
    from datasets import concatenate_datasets

    from fpig.embedding import embed_video_batches

    errors: dict[str, Exception] = {}
    datasets, readable = [], []
    videos = [str(path) for path in paths]
    for batch in embed_video_batches(model, processor, videos, batch_size, num_workers):
        errors |= {videos[index]: error for index, error in batch.errors.items()}
        if batch.indices:
            batch_paths = [paths[index] for index in batch.indices]
            seconds = [processor.video_processor.read_frame_seconds(path) for path in batch_paths]
            datasets.append(make_rows(batch, seconds))
            readable += batch_paths
    if not readable:
        error = next(iter(errors.values()))
        raise ValueError(
            f"`paths` has {len(paths)} videos and none can be read; the first: {error}"
        ) from error
    unreadable = {video: str(error) for video, error in errors.items()}
    return VideoIndex(concatenate_datasets(datasets), readable, unreadable)


def make_rows(batch: "VideoBatch", frame_seconds: list[list[float]]) -> "Dataset":
    """The rows of the readable videos of a batch, but for their paths."""
    from datasets import Array2D, Dataset, Features, List, Value

    num_frames, width = batch.frame_embeds.shape[1:]
    vector = List(Value("float32"), length=width)
    features: dict[str, Any] = {
        "embeds": vector,
        "frame_embeds": Array2D((num_frames, width), "float32"),
        "frame_seconds": List(Value("float32"), length=num_frames),
    }
    rows = {
        "embeds": batch.embeds.numpy(),
        "frame_embeds": batch.frame_embeds.numpy(),
        "frame_seconds": frame_seconds,
    }
    if batch.pseudo_query_embeds is not None:
        features["pseudo_query_embeds"] = vector
        features["selected_token_indices"] = List(
            Value("int32"), length=batch.selected_token_indices.shape[1]
        )
        rows["pseudo_query_embeds"] = batch.pseudo_query_embeds.numpy()
        rows["selected_token_indices"] = batch.selected_token_indices.numpy()
    return Dataset.from_dict(rows, Features(features))


def fingerprint_model(model: "PreTrainedModel", processor: "ProcessorMixin") -> str:
    """Sixteen digits that another architecture, other weights or other video settings change."""
    import torch

    def keep_architecture(settings: dict[str, Any]) -> dict[str, Any]:
        return {
            name: keep_architecture(value) if isinstance(value, dict) else value
            for name, value in settings.items()
            if name not in PROVENANCE
        }

    names = ("num_frames", "size", "resize_mode", "image_mean", "image_std", "keyframes_only")
    video_settings = {name: getattr(processor.video_processor, name) for name in names}
    settings = [keep_architecture(model.config.to_dict()), video_settings]
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for name, parameter in sorted(model.named_parameters()):
        digest.update(f"{name} {parameter.dtype}".encode())
        digest.update(parameter.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def check_index_target(folder: Path) -> None:
    """
    Raises:
        FileExistsError: something is there already.
    """
    if os.path.lexists(folder):  # a link to nothing too
        raise FileExistsError(f"`{folder}` is there already; remove it or choose another name")


def save_index(index: VideoIndex, folder: Path, fingerprint: str) -> None:
    """
    Writes an index. It appears under its name when it is complete, and never before.

    Paths are kept relative to `folder`, so that an index and its videos can move together.

    Raises:
        FileExistsError: something is there already.
    """
    check_index_target(folder)
    target = folder.absolute()
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # what a killed run left
    videos = [os.path.relpath(path.absolute(), target) for path in index.paths]
    index.dataset.add_column("video", videos).save_to_disk(partial)
    record = {"model": fingerprint, "unreadable": index.unreadable}
    (partial / RECORD_NAME).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    partial.rename(target)


def is_index(folder: Path) -> bool:
    """Whether a folder was written by `save_index`."""
    return (folder / RECORD_NAME).is_file()


def load_index(folder: Path, fingerprint: str) -> VideoIndex:
    """
    Reads what `save_index` wrote. Videos that are gone by now are among its unreadable ones.

    Args:
        folder: where it is.
        fingerprint: of the model that will search in it.

    Raises:
        ValueError: no index, a damaged one, one of another model, or all its videos are gone.
    """
    from datasets import load_from_disk
    from pyarrow import ArrowException

    if not is_index(folder):
        raise ValueError(f"`{folder}` is no index; make one: fpig index FOLDER VIDEOS_DIR INDEX_DIR")
    try:
        record = json.loads((folder / RECORD_NAME).read_text(encoding="utf-8"))
        found, unreadable = record["model"], dict(record["unreadable"])
        dataset = load_from_disk(str(folder))
        paths = [Path(os.path.normpath(folder.absolute() / video)) for video in dataset["video"]]
        if not paths or COLUMNS - set(dataset.column_names):
            raise ValueError(f"`video` has {len(paths)} rows beside {', '.join(dataset.column_names)}")
    except (ArrowException, LookupError, OSError, TypeError, ValueError) as error:
        raise ValueError(f"`{folder}` is damaged ({error}); make it again: fpig index") from error
    if found != fingerprint:
        raise ValueError(
            f"`{folder}` was made with another model ({found}, this one is {fingerprint}); make it again: "
            "fpig index"
        )
    # By its suffix too: a page serves what an index lists, and somebody else may have written it.
    is_there = [path.is_file() and path.suffix.lower() in VIDEO_SUFFIXES for path in paths]
    present = [number for number, there in enumerate(is_there) if there]
    gone = [path for path, there in zip(paths, is_there, strict=True) if not there]
    unreadable |= {str(path): f"there is no video `{path}`" for path in gone}
    if not present:
        raise ValueError(f"`{folder}` lists {len(paths)} videos and none is there, such as {paths[0]}")
    return VideoIndex(dataset.select(present), [paths[number] for number in present], unreadable)


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="fpig index", description="Encode a folder of videos once, for `fpig demo`."
    )
    add_encoder_arguments(parser)
    parser.add_argument(
        "videos_dir", metavar="VIDEOS_DIR", type=Path, help="taken with all subfolders, linked ones too"
    )
    parser.add_argument("index_dir", metavar="INDEX_DIR", type=Path, help="written; must not be there")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Embeds and writes; what can't be read goes to stderr."""
    options = parse_arguments(arguments)
    try:
        check_index_target(options.index_dir)
        paths = find_videos(options.videos_dir)
        # Only now, and not at the top: it takes seconds, in which a typing error can be told.
        from fpig.embedding import load_encoder

        model, processor = load_encoder(options.model, options.revision, options.trust_remote_code)
        index = index_videos(model, processor, paths, options.batch_size, options.num_workers)
        save_index(index, options.index_dir, fingerprint_model(model, processor))
    except (OSError, ValueError) as error:
        raise SystemExit(f"error: {' '.join(str(error).split())}") from error
    for reason in index.unreadable.values():
        sys.stderr.write(f"skipped: {reason}\n")
    sys.stdout.write(f"{len(index)} videos, {len(index.unreadable)} unreadable: {options.index_dir}\n")


__all__ = ["IndexedVideo", "VideoIndex", "fingerprint_model", "index_videos", "load_index", "save_index"]

if __name__ == "__main__":
    main()
