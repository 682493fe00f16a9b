"""
What visitors of the page bring: matrices of scores, video indices, run files and qrels.

Everything is read with limits, so that no file exhausts the memory; nothing in a file is executed.

Shapes: Q captions, V videos.
"""

import gzip
import itertools
import math
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from sys import intern

import numpy as np

MAX_CELLS = 50_000_000  # of a matrix: 200 MB in single precision
MAX_SIDE = 1_000_000  # captions, or videos
MAX_LINES = 3_000_000  # of a run or its qrels
MAX_TEXT_BYTES = 250_000_000  # of a text file, decompressed
MAX_SHOWN_CHARACTERS = 40
SEPARATORS = {".csv": ",", ".tsv": "\t"}
HEADER_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read_scores(path: Path) -> np.ndarray:
    """
    The matrix of scores [Q, V] of a .npy, .csv or .tsv file: one row per caption, one column per video.

    Returns:
        At least float32: float16 and small integers as float32, text and large ones as float64, which is
        exact to 2**53.

    Raises:
        ValueError: another kind of file, a damaged one, no numbers, rows of different lengths, a NaN, or more
            than `MAX_CELLS` scores or `MAX_SIDE` captions or videos.
    """
    suffix = path.suffix.lower()
    if suffix == ".npy":
        scores = read_array(path)
        if scores.ndim != 2:
            raise ValueError(
                f"`{path.name}` has the shape {scores.shape}; a matrix of scores has two dimensions: save "
                "[captions, videos]"
            )
        scores = scores.astype(np.promote_types(scores.dtype, np.float32))
    elif suffix in SEPARATORS:
        scores = read_table(path, SEPARATORS[suffix])
    else:
        raise ValueError(f"`{path.name}` ends in '{suffix}'; a matrix of scores is a .npy, .csv or .tsv file")
    is_nan = np.isnan(scores)
    if is_nan.any():
        row, column = np.unravel_index(is_nan.argmax(), scores.shape)
        raise ValueError(
            f"`{path.name}` has a NaN in row {row + 1}, column {column + 1}; a NaN has no rank: look for it "
            "in the embeddings that the scores come from"
        )
    return scores


def read_array(path: Path) -> np.ndarray:
    """
    The numbers of a .npy file, of any shape.

    Raises:
        ValueError: damaged, of anything but numbers, empty, or larger than the file or the limits.
    """
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            shape, _, dtype = HEADER_READERS[version](file)
            num_bytes = path.stat().st_size - file.tell()
    # What a hostile header makes the parser raise.
    except (ValueError, KeyError, RecursionError, MemoryError, OverflowError) as error:
        raise ValueError(f"`{path.name}` does not begin as a .npy file does; use numpy.save") from error
    if dtype.kind not in "fiu":
        raise ValueError(
            f"`{path.name}` is of type {shorten(str(dtype))}; whole and floating-point numbers are "
            "loaded: save such an array"
        )
    # Python's integers don't overflow. Checked before anything is allocated: a header may lie.
    if not shape or min(shape) < 1 or math.prod(shape) * dtype.itemsize != num_bytes:
        raise ValueError(
            f"`{path.name}` says that it has the shape {shorten(str(shape))} of type {dtype}, but it has "
            f"{num_bytes} bytes of data; they must agree and not be empty: write it again with numpy.save"
        )
    check_size(path.name, shape[0], math.prod(shape[1:]))
    return np.load(path, allow_pickle=False)


def read_table(path: Path, separator: str) -> np.ndarray:
    """
    The numbers of a text file [rows, columns].

    Raises:
        ValueError: a field is no number, rows of different lengths, no rows, or more than the limits allow.
    """
    rows: list[np.ndarray] = []
    for number, line in read_lines(path):
        num_columns = line.count(separator) + 1
        # Before the line is split: a field takes more memory than its text.
        check_size(path.name, len(rows) + 1, num_columns)
        if rows and num_columns != len(rows[0]):
            raise ValueError(
                f"`{path.name}` has {num_columns} scores in line {number} but {len(rows[0])} in the first; "
                "every caption needs a score for every video"
            )
        fields = line.split(separator)
        try:
            rows.append(np.array(list(map(float, fields))))
        except ValueError:
            column = [is_number(field) for field in fields].index(False)
            raise ValueError(
                f"`{path.name}` has {shorten(repr(fields[column].strip()))} in line {number}, column "
                f"{column + 1}; a matrix file holds numbers with {separator!r} between: write it without "
                "header and row names"
            ) from None
    if not rows:
        raise ValueError(f"`{path.name}` is empty; write one row of scores per caption")
    return np.stack(rows)


def check_size(name: str, num_rows: int, num_columns: int) -> None:
    """
    Raises:
        ValueError: a matrix that is too large for the page.
    """
    if max(num_rows, num_columns) > MAX_SIDE or num_rows * num_columns > MAX_CELLS:
        raise ValueError(
            f"`{name}` has at least {num_rows} rows of {num_columns}; this page takes {MAX_CELLS} numbers "
            f"and {MAX_SIDE} rows or columns: call the metric on your own machine"
        )


def read_indices(path: Path) -> np.ndarray:
    """
    The index of each caption's video [Q]: a .npy file, or text with commas, blanks or line ends between.

    Raises:
        ValueError: a damaged file, a field that is no whole number, nothing at all, or more than `MAX_SIDE`.
    """
    if path.suffix.lower() == ".npy":
        return read_array(path)
    indices: list[int] = []
    for number, line in read_lines(path):
        fields = re.split(r"[,\s]+", line.strip().strip(","), maxsplit=MAX_SIDE)
        check_size(path.name, len(indices) + len(fields), 1)
        for field in fields:
            if not re.fullmatch(r"[+-]?[0-9]{1,18}", field):
                raise ValueError(
                    f"`{path.name}` has {shorten(repr(field))} in line {number}; a video index is a whole "
                    "number: write one per caption, from 0"
                )
            indices.append(int(field))
    if not indices:
        raise ValueError(f"`{path.name}` is empty; write one video index per caption")
    return np.array(indices)


def read_run(path: Path) -> dict[str, dict[str, float]]:
    """
    The run of a search engine in TREC's form, plain or .gz: lines of `topic Q0 document rank score tag`.

    Returns:
        topic → document → score. The rank column is not read, as in TREC's own program.

    Raises:
        ValueError: another number of columns, a score that is none, a document listed twice, or the limits.
    """
    run: dict[str, dict[str, float]] = {}
    for number, (topic, _, document, _, text, _) in read_columns(path, 6, "topic Q0 document rank score tag"):
        if not is_number(text) or math.isnan(float(text)):
            raise ValueError(
                f"`{path.name}` has the score {shorten(repr(text))} in line {number}; a score is a number "
                "and not NaN: write a higher one for a better match"
            )
        add_document(path, number, run.setdefault(topic, {}), document, float(text))
    return run


def read_qrels(path: Path) -> dict[str, dict[str, float]]:
    """
    Judgements in TREC's form, plain or .gz: lines of `topic 0 document relevance`.

    Returns:
        topic → document → relevance.

    Raises:
        ValueError: another number of columns, a relevance that is no whole number, a document judged twice,
            or the limits.
    """
    qrels: dict[str, dict[str, float]] = {}
    for number, (topic, _, document, text) in read_columns(path, 4, "topic 0 document relevance"):
        if not re.fullmatch(r"[+-]?[0-9]{1,9}", text):
            raise ValueError(
                f"`{path.name}` has the relevance {shorten(repr(text))} in line {number}; it is a whole "
                "number: write 1 for the topic's video, 0 for another"
            )
        add_document(path, number, qrels.setdefault(topic, {}), document, int(text))
    return qrels


def add_document(path: Path, number: int, documents: dict[str, float], document: str, value: float) -> None:
    """
    Raises:
        ValueError: the topic has the document already.
    """
    if document in documents:
        raise ValueError(
            f"`{path.name}` lists {shorten(repr(document))} again in line {number}; a topic has a document "
            "once: remove one of the two lines"
        )
    documents[document] = value


def read_columns(path: Path, num_columns: int, form: str) -> Iterator[tuple[int, list[str]]]:
    """
    The number, from 1, and the columns of each line that is not blank.

    Raises:
        ValueError: a line with another number of columns, or more than `MAX_LINES`.
    """
    for count, (number, line) in enumerate(read_lines(path), start=1):
        if count > MAX_LINES:
            raise ValueError(
                f"`{path.name}` has more than {MAX_LINES} lines, the most that this page takes; list fewer "
                "videos per topic"
            )
        # Topics and documents come again and again: one string each.
        columns = [intern(column) for column in line.split(maxsplit=num_columns)]
        if len(columns) != num_columns:
            raise ValueError(
                f"`{path.name}` has {shorten(repr(line.strip()))} in line {number}; a line has {num_columns} "
                f"columns: {form}"
            )
        yield number, columns


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """
    The number, from 1, and the text of each line that is not blank; a file that ends in .gz is decompressed.

    Raises:
        ValueError: damaged, no UTF-8, or more than `MAX_TEXT_BYTES`.
    """
    left = MAX_TEXT_BYTES
    with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
        for number in itertools.count(1):
            try:
                line = file.readline(left + 1)
                # With the mark that some editors put in front.
                text = line.decode("utf-8-sig")
            except UnicodeDecodeError as error:
                raise ValueError(f"`{path.name}` is no text in line {number}; write it in UTF-8") from error
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise ValueError(f"`{path.name}` can't be decompressed; write it with gzip again") from error
            if not line:
                return
            left -= len(line)
            if left < 0:
                raise ValueError(
                    f"`{path.name}` has more than {MAX_TEXT_BYTES} bytes of text, the most that this page "
                    "takes; list fewer videos per topic, or save a matrix with numpy.save"
                )
            if text.strip():
                yield number, text


def is_number(text: str) -> bool:
    """Whether `float` takes it."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def shorten(text: str) -> str:
    """Its beginning, for a message."""
    return text if len(text) <= MAX_SHOWN_CHARACTERS else f"{text[:MAX_SHOWN_CHARACTERS]}…"


__all__ = ["read_indices", "read_qrels", "read_run", "read_scores"]
