"""Annotation files as they are published: where they lie, and what is in them, with errors that say where."""

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any


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
    repeated: list[str] = []

    def make_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) < len(pairs):
            keys = [key for key, _ in pairs]
            repeated.extend(key for key in made if keys.count(key) > 1)
        return made

    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=make_object)
    except (ValueError, RecursionError) as error:  # also of a number with thousands of digits
        raise ValueError(f"`{path}` can't be read as JSON: {error}; get the file again") from error
    if repeated:
        raise ValueError(f"`{path}` has the key {repeated[0]!r} twice; take one out")
    return content


def read_json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """
    Place and content of each line of a jsonl file.

    Raises:
        ValueError: a line is no JSON object.
    """
    for place, line in read_lines(path):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"`{place}` can't be read as JSON: {error}; get the file again") from error
        if not isinstance(row, dict):
            raise ValueError(f"`{place}` is {line[:60]} but must be a JSON object; get the file again")
        yield place, row


def read_table(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """
    Place and values of each row of a csv file, which must have `columns`. White space around values goes.

    Raises:
        ValueError: it is no csv, lacks a column or has one twice, or a row is too short or too long.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restval="")
            names = list(reader.fieldnames or ())
            _check_columns(names, columns, path)
            for number, row in enumerate(reader, start=1):
                place = f"row {number} of {path}"
                extra = row.pop(None, [])
                if extra:
                    raise ValueError(
                        f"`{place}` has {len(names) + len(extra)} values but the first line names "
                        f"{len(names)} columns; put values with commas into quotes"
                    )
                values = {name: value.strip() for name, value in row.items()}
                for column in columns:
                    if not values[column]:
                        raise ValueError(f"`{place}` has no `{column}`; fill it in or take the row out")
                yield place, values
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"`{path}` can't be read as csv: {error}; get the file again") from error


def _check_columns(names: Sequence[str], columns: Sequence[str], path: Path) -> None:
    """Refuses a csv file whose first line lacks one of `columns` or has a name twice."""
    for column in columns:
        if column not in names:
            found = ", ".join(f"`{name}`" for name in names) or "nothing"
            raise ValueError(
                f"`{path}` has no column `{column}` but {found}; the first line must name the columns"
            )
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
        raise ValueError(f"`{path}` can't be read as text: {error}; get the file again") from error


__all__ = ["find_file", "read_json", "read_json_lines", "read_lines", "read_table", "report_missing"]
