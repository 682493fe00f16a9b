"""
MSVD, 1,970 videos with 21 to 81 captions each in the test split: 1,200 / 100 / 670.

Annotations in ROOT or ROOT/annotations: `train_list.txt`, `val_list.txt` and `test_list.txt` with an id a
line, and the captions of all videos as `captions_msvd.json` (id → texts) or else `raw-captions.pkl` (id →
captions as lists of words, joined by spaces). The json wins where both are there: a pickle is read with care,
but need not be.

Videos: ROOT/videos/ID.avi, in any subfolder too and with any suffix of a video, or a folder of pictures
ROOT/frames/ID.
"""

import io
import pickle
import pickletools
import reprlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from fpig.annotations.files import find_file, read_json, report_missing
from fpig.annotations.published import AnnotatedVideo, PublishedDataset, PublishedSplit, read_listed

WHERE_FROM = "github.com/ArrowLuo/CLIP4Clip (msvd_data.zip of its release v0.0)"
LISTS = {"train": "train_list.txt", "validation": "val_list.txt", "test": "test_list.txt"}
JSON_NAME, PICKLE_NAME = "captions_msvd.json", "raw-captions.pkl"
# Of all captions together: more than ten times what the real file has, some 80,000 captions of 40 characters.
MAX_CHARACTERS = 40_000_000
# All that a file which is no pickle, or half of one, makes the unpickler raise.
PICKLE_ERRORS = (
    *(pickle.UnpicklingError, EOFError, AttributeError, IndexError, KeyError, MemoryError, OverflowError),
    *(RecursionError, TypeError, ValueError),
)


class PlainUnpickler(pickle.Unpickler):
    """Builds containers, texts and numbers. It looks up no class and no function, so that none can run."""

    def find_class(self, module: str, name: str) -> NoReturn:
        """Refuses whatever the file names."""
        raise pickle.UnpicklingError(f"it names {module}.{name}, and only plain containers are read")


def read_videos(root: Path, split: str) -> Iterator[AnnotatedVideo]:
    """The videos of a split."""
    list_path = find_file(root, LISTS[split])
    captions_path = find_file(root, JSON_NAME, PICKLE_NAME)
    if not list_path or not captions_path:
        raise report_missing(root, (f"{LISTS[split]} with {JSON_NAME} or {PICKLE_NAME}",), WHERE_FROM)
    read_captions = read_caption_lists if captions_path.name == JSON_NAME else read_pickled_captions
    return read_listed(list_path, read_captions(captions_path))


def read_caption_lists(path: Path) -> dict[str, tuple[str, ...]]:
    """
    Id → captions of a JSON object of lists.

    Raises:
        ValueError: another layout.
    """
    content = read_json(path)
    if not isinstance(content, dict) or not all(isinstance(texts, list) for texts in content.values()):
        raise ValueError(f"`{path}` must be a JSON object with a list of captions for each id; get it again")
    return {video_id: tuple(texts) for video_id, texts in content.items()}


def read_pickled_captions(path: Path) -> dict[str, tuple[str, ...]]:
    """
    Id → captions of a pickled dict of lists of lists of words.

    Raises:
        ValueError: it is no pickle, holds or does anything but plain containers, or has another layout.
    """
    try:
        pickled = path.read_bytes()
        _refuse_bombs(pickled)
        content = PlainUnpickler(io.BytesIO(pickled), encoding="utf-8").load()
    except PICKLE_ERRORS as error:
        raise ValueError(
            f"`{path}` can't be read as a pickle of plain containers: {error}; get it again from "
            f"{WHERE_FROM}, or use {JSON_NAME}"
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f"`{path}` holds a {type(content).__name__} but must hold a dict; get it again")
    joined: dict[str, list[str]] = {}
    num_characters = 0
    for video_id, words in _list_captions(content, path):
        # Counted before it is joined: lists may be in many places of a small file.
        num_characters += sum(map(len, words)) + len(words) + 1
        if num_characters > MAX_CHARACTERS:
            raise ValueError(
                f"`{path}` has captions of more than {MAX_CHARACTERS:,} characters, which are not MSVD's; "
                f"get it again from {WHERE_FROM}, or use {JSON_NAME}"
            )
        joined.setdefault(video_id, []).append(" ".join(words))
    return {video_id: tuple(joined.get(video_id, ())) for video_id in content}


def _refuse_bombs(pickled: bytes) -> None:
    """
    While it is still unpickling, tuples in tuples as keys would take Python down, or for ever, and frozensets
    too; and a memo has as many places as the highest number in it, however short the file.

    Raises:
        pickle.UnpicklingError: there is a tuple or a frozenset, or a number that the file can't have use for.
    """
    for opcode, argument, _ in pickletools.genops(pickled):
        if opcode.name in ("GLOBAL", "INST", "STACK_GLOBAL"):
            return  # what it names is refused before what comes next
        if opcode.name.startswith(("TUPLE", "FROZENSET")):
            kind = "tuple" if opcode.name.startswith("TUPLE") else "frozenset"
            raise pickle.UnpicklingError(f"it holds a {kind}, and only lists are read")
        if opcode.name.endswith(("PUT", "GET")) and argument > len(pickled):
            raise pickle.UnpicklingError(f"it numbers an object {argument}, but has {len(pickled)} bytes")


def _list_captions(content: dict[Any, Any], path: Path) -> Iterator[tuple[str, list[str]]]:
    """Id and words of each caption."""
    for video_id, captions in content.items():
        for words in captions if isinstance(captions, list) and isinstance(video_id, str) else (None,):
            if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
                raise ValueError(
                    f"`{path}` has for {reprlib.repr(video_id)} a {type(captions).__name__} but must have "
                    "lists of lists of words for each id; get it again"
                )
            yield video_id, words


MSVD = PublishedDataset(
    name="msvd",
    splits={
        "train": PublishedSplit(1200, 1, None, "several captions", (48_774,)),
        "validation": PublishedSplit(100, 1, None, "several captions", (4290,)),
        "test": PublishedSplit(670, 21, 81, "several captions", (27_763, 27_768)),
    },
    where_from=WHERE_FROM,
    read_videos=read_videos,
)

__all__ = ["MSVD", "read_caption_lists", "read_pickled_captions"]
