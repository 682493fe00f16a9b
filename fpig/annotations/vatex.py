"""
VATEX, 28,991 clips with 10 English captions each, in the split that the literature uses: the 25,991 of the
official training set, and the two halves of the official validation set, 1,500 / 1,500.

Annotations in ROOT or ROOT/annotations, the first form whose files are all there:

1. the official json, `vatex_training_v1.0.json` for training and `vatex_validation_v1.0.json` for the others,
   with `val_list.txt` and `test_list.txt`, which tell the halves apart with an id a line; they are published
   only as `val_names.npy` and `tst_names.npy` on HGR's netdisk; `train_list.txt` is heeded too where it is
   there;
2. `ref_captions.json` (id → captions) with `train_list.txt`, `val_list.txt` and `test_list.txt`;
3. TeachCLIP's tables in MSR-VTT's layouts: `VATEX_train.csv` with `VATEX_data.json`; `VATEX_val.csv` and
   `VATEX_test.csv` with a row for each caption.

Clips: ROOT/videos/ID.mp4, in any subfolder too and with any suffix of a video, or a folder of pictures
ROOT/frames/ID. About 5 % of the clips are gone from YouTube: `on_missing="skip"` goes on without them. The
log counts them and names the first; `skipped` of the loaded split, and a run's `results.json`, list all.
"""

import reprlib
from collections.abc import Iterator
from pathlib import Path

from fpig.annotations.files import find_file, read_json, report_missing
from fpig.annotations.msrvtt import read_sentence_table, read_sentences
from fpig.annotations.msvd import LISTS, read_caption_lists
from fpig.annotations.published import (
    AnnotatedVideo,
    PublishedDataset,
    PublishedSplit,
    read_listed,
    refuse_repeated,
)

WHERE_FROM = (
    "eric-xw.github.io/vatex-website; write its lists, an id a line, from trn_names.npy, val_names.npy and "
    "tst_names.npy, which are on a netdisk only, linked in the README of github.com/cshizhe/hgr_v2t"
)
OFFICIAL = {
    "train": "vatex_training_v1.0.json",
    "validation": "vatex_validation_v1.0.json",
    "test": "vatex_validation_v1.0.json",
}
CAPTIONS_NAME, SENTENCES_NAME = "ref_captions.json", "VATEX_data.json"
TABLES = {"train": "VATEX_train.csv", "validation": "VATEX_val.csv", "test": "VATEX_test.csv"}


def read_videos(root: Path, split: str) -> Iterator[AnnotatedVideo]:
    """The videos of a split."""
    list_path, official_path = find_file(root, LISTS[split]), find_file(root, OFFICIAL[split])
    if official_path and split == "train" and not list_path:
        return read_official(official_path)
    if official_path and list_path:
        videos = refuse_repeated(read_official(official_path))
        captions = {video.video_id: video.captions for video in videos}
        return read_listed(list_path, captions)
    captions_path = find_file(root, CAPTIONS_NAME)
    if captions_path and list_path:
        return read_listed(list_path, read_caption_lists(captions_path))
    table_path, sentences_path = find_file(root, TABLES[split]), find_file(root, SENTENCES_NAME)
    if table_path and split != "train":
        return read_sentence_table(table_path)
    if table_path and sentences_path:
        return read_listed(table_path, read_sentences(sentences_path))
    is_train = split == "train"
    looked_for = (
        f"{OFFICIAL[split]}{'' if is_train else f' with {LISTS[split]}'}",
        f"{CAPTIONS_NAME} with {LISTS[split]}",
        f"{TABLES[split]}{f' with {SENTENCES_NAME}' if is_train else ''}",
    )
    raise report_missing(root, looked_for, WHERE_FROM)


def read_official(path: Path) -> Iterator[AnnotatedVideo]:
    """
    The videos of an official json with their English captions.

    Raises:
        ValueError: another layout than `[{"videoID": …, "enCap": […]}]`.
    """
    content = read_json(path)
    if not isinstance(content, list):
        raise ValueError(f"`{path}` holds no list but must be a list of objects; get it from {WHERE_FROM}")
    for number, item in enumerate(content):
        place = f"item {number} of {path}"
        video_id, captions = (
            (item.get("videoID"), item.get("enCap")) if isinstance(item, dict) else (None, None)
        )
        if not isinstance(video_id, str) or not isinstance(captions, list):
            raise ValueError(
                f"`{place}` is {reprlib.repr(item)} but must have `videoID`, a text, and `enCap`, a list of "
                f"captions; get the file from {WHERE_FROM}"
            )
        yield AnnotatedVideo(place, video_id, tuple(captions))


def _with_10_captions(num_videos: int) -> PublishedSplit:
    return PublishedSplit(num_videos, 10, 10, "several captions")


VATEX = PublishedDataset(
    name="vatex",
    splits={
        "train": _with_10_captions(25_991),
        "validation": _with_10_captions(1500),
        "test": _with_10_captions(1500),
    },
    where_from=WHERE_FROM,
    read_videos=read_videos,
)

__all__ = ["VATEX"]
