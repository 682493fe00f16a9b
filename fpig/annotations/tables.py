"""Rows of csv, jsonl and parquet files and of `datasets` datasets, in one form."""

import os
import re
import reprlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pyarrow.parquet

from fpig.annotations.files import read_csv, read_json_lines, refuse_repeated_columns
from fpig.search import has_surrogates

VIDEO_COLUMNS = ("video", "file_name")
CAPTION_COLUMN = "caption"
TABLE_SUFFIXES = (".csv", ".jsonl", ".parquet")
_REPOSITORY_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


@dataclass(frozen=True)
class AnnotationRow:
    """One row of annotations, checked.

    `place` is where it stands, for messages; `name` is the video's path as written there, empty where it
    has none; `video` the path to open, or the file's content.
    """

    place: str
    name: str
    video: str | bytes
    captions: tuple[str, ...]
    split: str | None


def read_rows(source: str | Path) -> Iterator[AnnotationRow]:
    """Read the rows of a file, a folder or a `datasets` repository.

    Raises:
        FileNotFoundError: there is no such file, folder or repository.
        ValueError: it can't be read, lacks a column, or a row has no video or an empty caption.
    """
    path = Path(source).expanduser()
    if path.is_file():
        return _read_table(path)
    if path.is_dir():
        tables = [path / f"metadata{suffix}" for suffix in TABLE_SUFFIXES]
        found = [table for table in tables if table.is_file()]
        return _read_table(found[0]) if found else _read_dataset(path)
    if path.suffix in TABLE_SUFFIXES or not _REPOSITORY_ID.fullmatch(str(source)):
        raise FileNotFoundError(
            f"`source` is '{source}' but there is no such file or folder; pass a csv, jsonl or parquet file, "
            "a folder with videos and metadata.csv or metadata.jsonl, a `datasets` repository, or 'shapes'"
        )
    return _read_dataset(source)


def _read_table(path: Path) -> Iterator[AnnotationRow]:
    readers = {".csv": read_csv, ".jsonl": read_json_lines, ".parquet": _read_parquet}
    if path.suffix not in readers:
        raise ValueError(
            f"`source` is '{path}' but only {', '.join(readers)} files are read; write one of these"
        )
    for place, row in readers[path.suffix](path):
        column = _find_video_column(row, place)
        name, video = _read_video(row[column], path.parent, place)
        yield AnnotationRow(place, name, video, _read_captions(row, place), row.get("split"))


def _find_video_column(columns: Iterable[str], place: str) -> str:
    """Name the column of the videos, having checked that the captions have one too."""
    found = ", ".join(f"`{column}`" for column in columns)
    video_columns = [column for column in VIDEO_COLUMNS if column in columns]
    missing = [] if video_columns else ["video"]
    missing += [] if CAPTION_COLUMN in columns else [CAPTION_COLUMN]
    if missing:
        raise ValueError(
            f"`{place}` has no column `{missing[0]}` but {found}; rename one to `{missing[0]}`, or, in "
            "a folder of plain videos, put a metadata.csv with the columns `video` and `caption`"
        )
    return video_columns[0]


def _read_video(value: Any, folder: Path, place: str) -> tuple[str, str | bytes]:
    """Name of the video and what to open: a path, taken from `folder`, or the content of an embedded file."""
    name, content = value, None
    if isinstance(value, dict):
        name, content = value.get("path"), value.get("bytes")
    elif isinstance(value, bytes):
        name, content = None, value
    is_named = isinstance(name, str) and name.strip()
    if isinstance(content, bytes) and content:
        return os.path.basename(name) if is_named else "", content
    if content or not is_named:
        raise ValueError(
            f"`{place}` has `video` {reprlib.repr(value)} but must name a file or hold one as {{'bytes', "
            "'path'}; fill it in or take the row out"
        )
    if "\0" in name or has_surrogates(name):
        raise ValueError(
            f"`{place}` has `video` {name!r} but no file can have that name; correct it or take the row out"
        )
    return name, str(folder / name)


def _read_captions(row: dict[str, Any], place: str) -> tuple[str, ...]:
    """The caption or captions of a row, none of them empty, all of them Unicode."""
    captions = row[CAPTION_COLUMN]
    captions = captions if isinstance(captions, list) else [captions]
    if not captions or not all(isinstance(caption, str) and caption.strip() for caption in captions):
        raise ValueError(
            f"`{place}` has `caption` {row[CAPTION_COLUMN]!r} but captions must be texts that are not empty; "
            "fill it in or take the row out"
        )
    if broken := [caption for caption in captions if has_surrogates(caption)]:
        raise ValueError(
            f"`{place}` has `caption` {broken[0]!r}, with half a character, but captions must be Unicode "
            "texts; correct it or take the row out"
        )
    return tuple(captions)


def _read_parquet(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            refuse_repeated_columns(file.schema_arrow.names, path)
            rows = (row for batch in file.iter_batches(batch_size=64) for row in batch.to_pylist())
            for number, row in enumerate(rows, start=1):
                yield f"row {number} of {path}", row
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())  # pyarrow's have several lines
        raise ValueError(
            f"`{path}` can't be read as parquet: {reason}; write it again, or get the file again"
        ) from error


def _read_dataset(source: str | Path) -> Iterator[AnnotationRow]:
    """Read all splits of a folder written by `save_to_disk`, else whatever `load_dataset` makes of it."""
    path = Path(source)
    if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
        loaded = datasets.load_from_disk(str(source))
    else:
        try:
            loaded = datasets.load_dataset(str(source))
        except (FileNotFoundError, ConnectionError) as error:
            raise FileNotFoundError(
                f"`source` is '{source}' but it is neither a file or folder with annotations nor a dataset "
                f"that `datasets` can load: {error}"
            ) from error
    if isinstance(loaded, datasets.Dataset):
        loaded = {None: loaded}
    for split, dataset in loaded.items():
        source_place = f"split '{split}' of {source}" if split else str(source)
        column = _find_video_column(dataset.column_names, source_place)
        rows = dataset.select_columns([column, CAPTION_COLUMN])
        if isinstance(rows.features[column], datasets.Video):
            rows = rows.cast_column(column, datasets.Video(decode=False))
        for number, row in enumerate(rows, start=1):
            place = f"row {number} of {source_place}"
            name, video = _read_video(row[column], path, place)
            yield AnnotationRow(place, os.path.basename(name), video, _read_captions(row, place), split)


__all__ = ["AnnotationRow", "read_rows"]
