"""
Files of TRECVID's ad-hoc video search: topics, judgements ("qrels") and runs.

All are text with blanks between the columns, one or several; a name that ends in .gz is of a compressed file.
"""

import gzip
import math
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from fpig.annotations.files import find_file, report_missing
from fpig.annotations.v3c import AVS_YEARS, WHERE_FROM
from fpig.avs_scoring import MAX_SHOTS, Judgement, Run, list_first, order_shots

QRELS_COLUMNS = ("topic", "0", "shot", "stratum", "judgement")
RUN_COLUMNS = ("topic", "0", "shot", "rank", "score", "tag")


def read_year(year: str, root: Path) -> tuple[dict[str, str], dict[str, dict[str, Judgement]] | None]:
    """
    The topics of a year and the judgements of them, which lie in `root` or `root/annotations`.

    Args:
        year: one of `AVS_YEARS`, "tv19" to "tv23".
        root: folder of the collection that is searched.

    Returns:
        What `read_topics` and `read_qrels` return; `None` where there are no judgements.

    Raises:
        FileNotFoundError: no topics.
        ValueError: a file that can't be read, or not the topics of that year.
    """
    files = AVS_YEARS[year]
    topics_path = find_file(root, files.topics_name)
    if topics_path is None:
        raise report_missing(root, (files.topics_name,), WHERE_FROM)
    topics = read_topics(topics_path)
    expected = [str(number) for number in files.topic_numbers]
    if list(topics) != expected:
        raise ValueError(
            f"`{topics_path}` has the topics {list_first(list(topics))} ({len(topics)}); {year} has "
            f"{expected[0]} to {expected[-1]}: get the file again"
        )
    qrels_path = find_file(root, files.qrels_name, f"{files.qrels_name}.gz")
    return topics, read_qrels(qrels_path) if qrels_path else None


def read_topics(path: str | Path) -> dict[str, str]:
    """
    Topics of a tvYY.avs.txt, lines of `611 a drone flying`.

    Returns:
        number → text, in the order of the file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a line without number or text, a number twice, no topics, or a damaged file.
    """
    path = Path(path)
    topics: dict[str, str] = {}
    for number, line in read_lines(path):
        topic, *words = line.split()
        if not re.fullmatch("[0-9]+", topic) or not words:
            raise ValueError(
                f"`{path.name}` has {line.strip()!r:.60} in line {number}; a line is a topic's number and "
                "its text: write 611 a drone flying"
            )
        if topic in topics:
            raise ValueError(
                f"`{path.name}` has topic {topic} again in line {number}; give each its own number"
            )
        topics[topic] = " ".join(words)
    return topics


def read_qrels(path: str | Path) -> dict[str, dict[str, Judgement]]:
    """
    Judgements, lines of `topic 0 shot stratum judgement`: 1 relevant, 0 not, -1 pooled but not judged.

    Returns:
        topic → pooled shot → judgement.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another number of columns, a judgement that is no whole number, a shot twice in a topic,
            no lines, or a damaged file.
    """
    path = Path(path)
    qrels: dict[str, dict[str, Judgement]] = {}
    for number, (topic, _, shot, stratum, text) in read_columns(path, QRELS_COLUMNS):
        if not re.fullmatch("[+-]?[0-9]{1,9}", text):
            raise ValueError(
                f"`{path.name}` has the judgement {text!r:.40} in line {number}; it must be a whole number: "
                "write 1 for relevant, 0 for not, -1 for not judged"
            )
        judgements = qrels.setdefault(topic, {})
        check_new(path, number, topic, shot, judgements)
        judgements[shot] = Judgement(stratum, int(text))
    return qrels


def read_run(path: str | Path) -> dict[str, list[tuple[str, float]]]:
    """
    A run, lines of `topic 0 shot rank score tag`. The rank is not read: the score alone counts.

    Returns:
        topic → shots and their scores, in the order of the file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another number of columns, a score that is none, a shot twice in a topic, no lines, or a
            damaged file.
    """
    path = Path(path)
    run: dict[str, dict[str, float]] = {}
    for number, (topic, _, shot, _, text, _) in read_columns(path, RUN_COLUMNS):
        try:
            # Python would also take 1_000, and digits of other scripts.
            score = float(text) if text.isascii() and "_" not in text else math.nan
        except ValueError:
            score = math.nan
        if math.isnan(score):
            raise ValueError(
                f"`{path.name}` has the score {text!r:.40} in line {number}; it must be a number and not "
                "NaN: write a higher one for a better match"
            )
        shots = run.setdefault(topic, {})
        check_new(path, number, topic, shot, shots)
        shots[shot] = score
    return {topic: list(shots.items()) for topic, shots in run.items()}


def write_run(path: str | Path, run: Run, run_id: str = "fpig", depth: int = MAX_SHOTS) -> None:
    """
    Writes a run, compressed if the name ends in .gz. Whoever stops in between leaves no half file.

    Args:
        path: an existing file is replaced.
        run: shots in any order; written best first, scores in full, so that no rank changes.
        run_id: a name for the last column.
        depth: shots of a topic that are written at most; the official program reads 1,000.

    Raises:
        ValueError: `run_id`, a topic or a shot is not one word; a topic without shots, or no topics; a shot
            twice; a score is NaN; or `depth` is below 1.
    """
    if depth < 1:
        raise ValueError(f"`depth` is {depth}; it must be at least 1")
    if not run:
        raise ValueError("`run` has no topics; search for one at least")
    check_word("run_id", run_id)
    lines = []
    for topic, shots in run.items():
        check_word("run", topic)
        if not shots:
            raise ValueError(f"`run` has no shots for topic {topic}; a topic in a run has one at least")
        for rank, (shot, score) in enumerate(order_shots(topic, shots, depth), start=1):
            check_word("run", shot)
            # float: numpy's would be written with its type.
            lines.append(f"{topic} 0 {shot} {rank} {float(score)!r} {run_id}\n")
    path = Path(path)
    partial = path.with_name(f".{path.name}.partial")
    with open_text(partial, "w", is_compressed=is_gzip(path)) as file:
        file.writelines(lines)
    partial.replace(path)


def check_word(name: str, word: str) -> None:
    """
    Raises:
        ValueError: empty, or with white space in it, which would end the column.
    """
    if len(word.split()) != 1 or word != word.strip():
        raise ValueError(f"`{name}` has {word!r:.40}; a column of a run is one word: write it without blanks")


def check_new(path: Path, number: int, topic: str, shot: str, known: dict) -> None:
    """
    Raises:
        ValueError: the topic has the shot already.
    """
    if shot in known:
        raise ValueError(
            f"`{path.name}` has {shot!r:.40} again for topic {topic} in line {number}; a topic has a shot "
            "once: remove one of the two lines"
        )


def read_columns(path: Path, names: tuple[str, ...]) -> Iterator[tuple[int, list[str]]]:
    """
    The number, from 1, and the columns of each line that is not blank.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a line with another number of columns, or see `read_lines`.
    """
    for number, line in read_lines(path):
        columns = line.split()
        if len(columns) != len(names):
            raise ValueError(
                f"`{path.name}` has {len(columns)} columns in line {number}, {line.strip()!r:.60}; there "
                f"must be {len(names)}: {' '.join(names)}"
            )
        yield number, columns


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """
    The number, from 1, and the text of each line that is not blank.

    Raises:
        FileNotFoundError: no such file.
        ValueError: damaged, no UTF-8, or nothing in it.
    """
    if not path.exists() or path.is_dir():
        raise FileNotFoundError(f"`{path}` is no file; pass the path of one")
    is_empty = True
    try:
        with open_text(path, "r", is_compressed=is_gzip(path)) as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    is_empty = False
                    yield number, line
    except UnicodeDecodeError as error:
        raise ValueError(
            f"`{path.name}` is no text in UTF-8; write it so, or let the name of a compressed file end in .gz"
        ) from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"`{path.name}` can't be decompressed; write it with gzip again") from error
    if is_empty:
        raise ValueError(f"`{path.name}` is empty; it must have one line at least")


def is_gzip(path: Path) -> bool:
    """Whether the name says so."""
    return path.suffix.lower() == ".gz"


def open_text(path: Path, mode: str, is_compressed: bool) -> TextIO:
    """The file, for reading without the mark that some editors put in front."""
    encoding = "utf-8-sig" if mode == "r" else "utf-8"
    if is_compressed:
        return gzip.open(path, f"{mode}t", encoding=encoding)
    return path.open(mode, encoding=encoding)


__all__ = ["read_qrels", "read_run", "read_topics", "read_year", "write_run"]
