"""Full-size data sets without their content: as many videos and captions as published, all of one clip."""

import csv
import json
import os
import pickle
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from fpig.annotations.msrvtt import NUMBERS_3K

# Kind of picture → encoder and pixel format.
CODECS = {"png": ("png", "rgb24"), "jpg": ("mjpeg", "yuvj444p"), "webp": ("libwebp", "yuv420p")}


def encode_picture(picture: np.ndarray, kind: str) -> bytes:
    codec, pixel_format = CODECS[kind]
    context = av.CodecContext.create(codec, "w")
    context.height, context.width = picture.shape[:2]
    context.pix_fmt, context.time_base = pixel_format, Fraction(1, 25)
    if kind == "jpg":
        context.options = {"qmin": "1", "q": "1"}
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pixel_format)
    packets = context.encode(frame) + context.encode(None)
    return b"".join(bytes(packet) for packet in packets)


def write_folder(folder: Path, frames: np.ndarray, kind: str = "png", name: str = "frame_{}") -> Path:
    """A folder with one picture for each frame, numbered from 0, without leading zeros."""
    folder.mkdir()
    for number, frame in enumerate(frames):
        (folder / f"{name.format(number)}.{kind}").write_bytes(encode_picture(frame, kind))
    return folder


def link_videos(root: Path, names: Iterable[str], clip: Path) -> None:
    """`clip` as `root/videos/NAME` for every name."""
    (root / "videos").mkdir(parents=True, exist_ok=True)
    for name in names:
        os.link(clip, root / "videos" / name)


def write_rows(path: Path, header: list[str], rows: Iterable[list[str]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def write_lines(path: Path, lines: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def write_sentences(path: Path, video_ids: Iterable[str], num_captions: int = 20) -> None:
    """`MSRVTT_data.json`; the captions of a video are apart, as in the real one."""
    ids = list(video_ids)
    sentences = [
        {"caption": f"{video_id} says {number}", "video_id": video_id, "sen_id": number * len(ids) + index}
        for number in range(num_captions)
        for index, video_id in enumerate(ids)
    ]
    videos = [{"video_id": video_id, "category": 9, "split": "train"} for video_id in ids]
    path.write_text(json.dumps({"info": {}, "videos": videos, "sentences": sentences}))


def write_msvd(root: Path, captions: dict, **lists: list[str]) -> None:
    """`captions_msvd.json` and lists: `write_msvd(root, {…}, train=[…], test=[…])`."""
    for name, ids in lists.items():
        write_lines(root / f"{name}_list.txt", ids)
    (root / "captions_msvd.json").write_text(json.dumps(captions))


def fake_msrvtt(root: Path) -> list[str]:
    """Both msrvtt1k and msrvtt3k; returns the ids."""
    root.mkdir(parents=True, exist_ok=True)
    ids = [f"video{number}" for number in range(NUMBERS_3K["test"].stop)]
    write_sentences(root / "MSRVTT_data.json", reversed(ids))
    write_rows(root / "MSRVTT_train.9k.csv", ["video_id"], ([video_id] for video_id in ids[:9000]))
    rows = ([f"ret{index}", "msr", video_id, "a caption"] for index, video_id in enumerate(ids[9000:]))
    write_rows(root / "MSRVTT_JSFUSION_test.csv", ["key", "vid_key", "video_id", "sentence"], rows)
    return ids


def fake_msvd(root: Path) -> list[str]:
    """With the pickle, and 21 to 81 captions a video; returns the ids."""
    ids = [f"-yt{number:04d}_1_9" for number in range(1970)]
    for name, part in (("train", ids[:1200]), ("val", ids[1200:1300]), ("test", ids[1300:])):
        write_lines(root / "annotations" / f"{name}_list.txt", part)
    captions = {}
    for part, total in ((ids[:1200], 48_774), (ids[1200:1300], 4290), (ids[1300:], 27_763)):
        left = total - 21 * len(part)
        for video_id in part:
            more = min(60, left)
            left -= more
            captions[video_id] = [["words", "of", str(caption)] for caption in range(21 + more)]
    (root / "annotations" / "raw-captions.pkl").write_bytes(pickle.dumps(captions, protocol=2))
    return ids


def fake_vatex(root: Path) -> list[str]:
    """The official json with lists of the two halves; returns the ids."""
    ids = [f"yt_{number:05d}_000001_000011" for number in range(28_991)]
    for name, part in (("training", ids[:25_991]), ("validation", ids[25_991:])):
        rows = [
            {"videoID": video_id, "enCap": [f"{video_id} {caption}" for caption in range(10)], "chCap": []}
            for video_id in part
        ]
        write_lines(root / f"vatex_{name}_v1.0.json", [json.dumps(rows)])
    write_lines(root / "val_list.txt", ids[25_991::2])
    write_lines(root / "test_list.txt", ids[25_992::2])
    return ids


def fake_didemo(root: Path) -> list[str]:
    """LisaAnne's json with lists that leave some out; returns the ids, some of which end in a bare dot."""
    suffixes = (".mov", ".mp4", ".avi", ".m4v", ".")
    ids = [f"{number}@N01_{number:010d}_abc{suffixes[number % 5]}" for number in range(10_461)]
    parts = {"train": ids[:8392], "val": ids[8392:9457], "test": ids[9457:]}
    for name, part in parts.items():
        rows = [
            {"description": f"{video_id} {moment}.", "video": video_id, "annotation_id": moment}
            for moment in range(3)
            for video_id in [*part, f"left_out_of_{name}.mov"]
        ]
        write_lines(root / f"{name}_data.json", [json.dumps(rows)])
        write_lines(root / f"{name}_list.txt", part)
    return ids


def fake_v3c(root: Path, name: str, num_shots: int) -> list[str]:
    """The list of shots; returns their ids."""
    ids = [f"shot{number // 200:05d}_{number % 200 + 1}" for number in range(num_shots)]
    write_lines(root / "VideoSets" / f"{name}.txt", ids)
    return ids
