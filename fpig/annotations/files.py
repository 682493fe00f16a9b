"""Annotation files as they are published: where they lie, and what is in them, with errors that say where."""

import csv
import json
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

REPAIR = "correct it, or get the file again"


def find_file(root: Path, *names: str) -> Path | None:
    """The first of `names` that is in `root` or in `root/annotations`."""
    for name in names:
        for folder in (root, root / "annotations"):
            if (folder / name).is_file():
                return folder / name
    return None


def report_missing(root: Path, looked_for: Sequence[str], where_from: str) -> FileNotFoundError:
    """The error for annotations that are not there."""
    if not root.is_dir():
        return FileNotFoundError(f"`{root}` is no folder; pass the folder of the data set, from {where_from}")
    return FileNotFoundError(
        f"`{root}` lacks annotations: neither there nor in its folder `annotations` is "
        f"{', or '.join(looked_for)}; get them from {where_from}"
    )


def read_json(path: Path) -> Any:
    """
    The content of a JSON file.

    Raises:
        ValueError: it is no JSON, or an object in it has a key twice, of which one would be lost.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"`{path}` can't be read as JSON: {error}; {REPAIR}") from error
    return _parse_json(text, str(path))


def read_json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """
    Place and content of each line of a jsonl file.

    Raises:
        ValueError: a line is no JSON object, or an object in it has a key twice.
    """
    for place, line in read_lines(path):
        row = _parse_json(line, place)
        if not isinstance(row, dict):
            raise ValueError(f"`{place}` is {line[:60]} but must be a JSON object; {REPAIR}")
        yield place, row


def _parse_json(text: str, place: str) -> Any:
    """The content of a JSON text, in which no object has a key twice."""
    repeated: list[str] = []

    def make_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) < len(pairs):
            keys = [key for key, _ in pairs]
            repeated.extend(key for key in made if keys.count(key) > 1)
        return made

    try:
        content = json.loads(text, object_pairs_hook=make_object)
    except (ValueError, RecursionError) as error:  # also of a number with thousands of digits
        raise ValueError(f"`{place}` can't be read as JSON: {error}; {REPAIR}") from error
    if repeated:
        raise ValueError(f"`{place}` has the key {repeated[0]!r} twice; take one out")
    return content


def read_table(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """
    Place and values of each row of a csv file, which must have `columns`. White space around values goes.

    Raises:
        ValueError: as in `read_csv`, or a row has nothing in one of `columns`.
    """
    for place, row in read_csv(path, columns):
        values = {name: value.strip() for name, value in row.items()}
        for column in columns:
            if not values[column]:
                raise ValueError(f"`{place}` has no `{column}`; fill it in or take the row out")
        yield place, values


def read_csv(path: Path, columns: Sequence[str] = ()) -> Iterator[tuple[str, dict[str, str]]]:
    """
    Place and values of each row of a csv file, which must have `columns`. What a short row lacks is empty.

    Raises:
        ValueError: it is no csv, lacks a column or has one twice, or a row has more values than columns.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)  # else a quote that is not closed swallows what follows
            names = next(reader, [])
            while names and not names[-1]:  # spreadsheets write commas for columns that are empty
                names.pop()
            _check_columns(names, columns, path)
            for number, row in enumerate(filter(None, reader), start=1):
                place = f"row {number} of {path}"
                if any(row[len(names) :]):
                    raise ValueError(
                        f"`{place}` has {len(row)} values but the first line names {len(names)} columns; put "
                        "values with commas into quotes"
                    )
                yield place, dict(zip_longest(names, row[: len(names)], fillvalue=""))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"`{path}` can't be read as csv: {error}; {REPAIR}") from error


def _check_columns(names: Sequence[str], columns: Sequence[str], path: Path) -> None:
    """Refuses a table that lacks one of `columns`."""
    for column in columns:
        if column not in names:
            found = ", ".join(f"`{name}`" for name in names) or "nothing"
            raise ValueError(
                f"`{path}` has no column `{column}` but {found}; the first line must name the columns"
            )
    refuse_repeated_columns(names, path)


def refuse_repeated_columns(names: Sequence[str], path: Path) -> None:
    """
    Raises:
        ValueError: a table has a column twice, of which one would be lost.
    """
    repeated = [name for name in names if names.count(name) > 1]
    if repeated:
        raise ValueError(f"`{path}` has the column `{repeated[0]}` twice; take one out or rename it")


def read_lines(path: Path) -> Iterator[tuple[str, str]]:
    """
    Place and text of each line that is not blank, without the white space around it.

    Raises:
        ValueError: it is no UTF-8.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if text := line.strip():
                    yield f"line {number} of {path}", text
    except UnicodeDecodeError as error:
        raise ValueError(f"`{path}` can't be read as text: {error}; {REPAIR}") from error


__all__ = [
    "find_file",
    "read_csv",
    "read_json",
    "read_json_lines",
    "read_lines",
    "read_table",
    "refuse_repeated_columns",
    "report_missing",
]
