"""A folder of pictures is a video whose frame n is the n-th picture."""

import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_datasets import CODECS, encode_picture, write_folder
from make_clips import paint_frames, read_all, read_numbers

from fpig.annotations import videos as annotated_videos
from processing_fpig import FPigVideoProcessor, VideoReadError
from processing_fpig import frame_folder_fpig as frame_folder
from processing_fpig.decoding_fpig import read_frame_seconds, read_frames

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("mode", ["test", "train"])
def test_folder_gives_the_pixels_of_its_frames_as_an_array(tmp_path, mode):
    frames = paint_frames(25)
    processor = FPigVideoProcessor(num_frames=12, size=32)
    expected, found = (
        processor(video, mode=mode, generator=torch.Generator().manual_seed(3))["pixel_values"]
        for video in (frames, write_folder(tmp_path / "clip", frames))
    )
    assert torch.equal(found, expected)


@pytest.mark.parametrize("kind", ["jpg", "webp"])
def test_lossy_pictures_come_in_order_and_in_colour(tmp_path, kind):
    frames = paint_frames(12)
    found = read_all(write_folder(tmp_path / "clip", frames, kind))
    assert read_numbers(found) == list(range(12))
    assert np.abs(found.astype(int) - frames).mean() < (1 if kind == "jpg" else 4)


def test_other_readers_see_the_same_pixels(tmp_path):
    """Pillow, which the processor does without, reads grey, palettes and transparent pictures alike."""
    pillow = pytest.importorskip("PIL.Image")
    picture = pillow.fromarray(paint_frames(3)[2])
    for kind, mode, options in (
        ("png", "L", {}),
        ("png", "P", {}),
        ("png", "RGBA", {}),
        ("png", "1", {}),
        ("jpg", "L", {}),
        ("jpg", "RGB", {"progressive": True, "subsampling": 0}),
        ("webp", "RGB", {"lossless": True}),
        ("webp", "RGBA", {"lossless": True}),
    ):
        path = tmp_path / f"{mode}-{len(os.listdir(tmp_path))}" / f"0.{kind}"
        path.parent.mkdir()
        picture.convert(mode).save(path, **options)
        expected = np.asarray(pillow.open(path).convert("RGB")).astype(int)
        difference = np.abs(read_all(path.parent)[0] - expected)
        assert difference.max() <= (3 if kind == "jpg" else 0), (kind, mode)


def test_numbers_in_names_are_sorted_by_value(tmp_path):
    frames = paint_frames(12)
    assert read_numbers(read_all(write_folder(tmp_path / "a", frames))) == list(range(12))
    folder = write_folder(tmp_path / "b", frames, name="clip_7_{}")
    assert read_numbers(read_frames(str(folder), lambda num_available: [10, 2, 2, 9])) == [10, 2, 2, 9]
    names = ["b1.png", "a02.png", "a2.png", "a10.png", "10.png", "9.png", "a2b10.png", "a2b9.png"]
    assert sorted(names, key=frame_folder.make_natural_key) == [
        *("9.png", "10.png", "a02.png", "a2.png", "a2b9.png", "a2b10.png", "a10.png", "b1.png")
    ]


def test_only_pictures_count(tmp_path):
    """What a Mac, an archive or a note leaves in a folder is no frame."""
    folder = write_folder(tmp_path / "clip", paint_frames(3))
    for name in (".DS_Store", "._frame_1.png", "Thumbs.db", "times.txt", "frame_4.png.part"):
        (folder / name).write_bytes(b"no picture")
    (folder / "FRAME_3.PNG").write_bytes((folder / "frame_0.png").read_bytes())
    assert len(read_all(folder)) == 4


def test_only_wanted_pictures_are_opened(tmp_path):
    folder = write_folder(tmp_path / "clip", paint_frames(12))
    for number in range(12):
        if number not in (0, 5, 11):
            (folder / f"frame_{number}.png").write_bytes(b"damaged")
    assert read_numbers(read_frames(folder, lambda num_available: [0, 5, num_available - 1])) == [0, 5, 11]
    with pytest.raises(VideoReadError, match="its `frame_4.png` is empty, damaged or none of jpg, png, webp"):
        read_frames(folder, lambda num_available: [0, 4])


def test_seconds_of_frames(tmp_path):
    """Nothing tells them: 25 a second, as of a clip that doesn't tell."""
    folder = write_folder(tmp_path / "clip", paint_frames(10))
    assert read_frame_seconds(folder, lambda num_available: [0, 5, num_available - 1]) == [0, 0.2, 0.36]


def cut(content: bytes) -> bytes:
    return content[: len(content) * 6 // 10]


@pytest.mark.parametrize("kind", CODECS)
@pytest.mark.parametrize("damage", [cut, lambda content: b"", lambda content: b"RIFF\0\0\0\0AVI " + content])
def test_damaged_pictures_are_named(tmp_path, kind, damage):
    folder = write_folder(tmp_path / "clip", paint_frames(3), kind)
    path = folder / f"frame_1.{kind}"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(VideoReadError, match=rf"`{folder}`: its `frame_1.{kind}` is .*damaged") as caught:
        read_all(folder)
    assert caught.value.path == str(folder)


def test_pictures_of_several_sizes_are_named(tmp_path):
    folder = write_folder(tmp_path / "clip", paint_frames(3))
    (folder / "frame_2.png").write_bytes(encode_picture(paint_frames(1, 48, 32)[0], "png"))
    with pytest.raises(
        VideoReadError, match="its `frame_2.png` has 48×32 pixels but `frame_0.png` has 96×64"
    ):
        read_all(folder)


def test_folders_without_pictures(tmp_path):
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(
        VideoReadError, match=r"it is a folder without a picture \(\.jpeg, \.jpg, \.png, \.webp"
    ):
        read_all(tmp_path)
    (tmp_path / "sub.png").mkdir()
    with pytest.raises(VideoReadError, match=r"its `sub\.png` is no file"):
        read_all(tmp_path)
    (tmp_path / "sub.png").rmdir()
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(VideoReadError, match=r"its `pipe\.png` is no file"):
        read_all(tmp_path)


def test_huge_pictures_are_refused(tmp_path):
    """A png of some bytes that promises 100,000 × 100,000 pixels."""
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    content = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    (tmp_path / "0.png").write_bytes(content)
    with pytest.raises(VideoReadError, match=r"its `0\.png` is damaged or has more than \d+ pixels"):
        read_all(tmp_path)


def test_pictures_of_many_bytes_are_not_read(tmp_path):
    """Files with a hole, so that they take no room on the disk: one begins as a picture, one doesn't."""
    for name, start, message in (
        ("0.png", b"\x89PNG\r\n\x1a\n", r"its `0\.png` is too large: more than 256 MiB"),
        ("1.png", b"", r"its `1\.png` is empty, damaged or none of jpg, png, webp"),
    ):
        (tmp_path / name).write_bytes(start)
        os.truncate(tmp_path / name, 1 << 40)
        with pytest.raises(VideoReadError, match=message):
            read_frames(str(tmp_path), lambda num_available: [num_available - 1])


@pytest.mark.parametrize(
    "content", [b"#EXTM3U\n#EXTINF:3.0,\n{clip}\n", b"<svg><image href='{clip}'/></svg>"]
)
def test_pictures_that_point_elsewhere_are_not_followed(tmp_path, content):
    clip = write_folder(tmp_path / "other", paint_frames(1)) / "frame_0.png"
    folder = tmp_path / "clip"
    folder.mkdir()
    (folder / "0.png").write_bytes(content.replace(b"{clip}", str(clip).encode()))
    with pytest.raises(VideoReadError, match="none of jpg, png, webp"):
        read_all(folder)


def test_names_are_no_patterns(tmp_path):
    """libav's own reader of pictures would take them for a sequence, or for a protocol."""
    folder = write_folder(tmp_path / "concat:%03d", paint_frames(1), name="frame%03d*?")
    assert read_numbers(read_all(folder)) == [0]


def test_neither_pillow_nor_torchvision_is_needed(tmp_path):
    folder = write_folder(tmp_path / "clip", paint_frames(3))
    code = (
        "import sys; sys.modules.update({'PIL': None, 'torchvision': None})\n"
        "from processing_fpig import FPigVideoProcessor\n"
        f"print(FPigVideoProcessor(num_frames=3, size=8)({str(folder)!r})['pixel_values'].shape)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "torch.Size([1, 3, 3, 8, 8])", done.stderr


def test_annotations_know_the_same_suffixes():
    """Those of the processor, whose import takes seconds."""
    assert annotated_videos.IMAGE_SUFFIXES == frame_folder.IMAGE_SUFFIXES
