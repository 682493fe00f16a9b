"""Damaged clips give what can be read of them and a warning that names them."""

import io
import re
import warnings
from concurrent.futures import ThreadPoolExecutor

import av
import numpy as np
import pytest
from make_clips import (
    CLIPS,
    SHORT_GOP,
    encode_clip,
    list_packets,
    make_clip,
    paint_frames,
    read_all,
    read_numbers,
)

from processing_fpig import VideoReadError
from processing_fpig.decoding_fpig import read_frames


def damage(clip: bytes, packets: range, skipped: int = 0) -> bytes:
    """The clip with the data of some packets (in decode order) overwritten, all but their first bytes."""
    damaged = bytearray(clip)
    for position, size in list_packets(clip)[packets.start : packets.stop]:
        start = min(position + skipped, position + size)
        damaged[start : position + size] = b"\xff" * (position + size - start)
    return bytes(damaged)


ONE_GROUP = ("mov_h264", "mp4_av1", "webm_vp9")


@pytest.mark.parametrize(
    "name",
    [
        "mp4_short_groups",
        "mkv_h264",
        "mov_h264",
        "avi_h264_b_frames",
        "avi_mpeg4",
        "mp4_mpeg4",
        "mp4_av1",
        "mp4_hevc",
        "mkv_ffv1",
    ],
)
def test_damage_in_the_middle_gives_the_rest_and_a_warning(name, tmp_path):
    """As many frames as ever, those of other groups pixel-equal, and no blank among them."""
    clean = read_all(make_clip(name))
    path = tmp_path / "damaged clip"
    path.write_bytes(damage(make_clip(name), range(9, 15), 12 if name.startswith("mkv") else 0))
    with pytest.warns(UserWarning, match=re.escape(f"the video `{path}` is damaged")):
        frames = read_all(path)
    assert len(frames) == len(clean)
    assert np.array_equal(frames[:7], clean[:7])
    if name not in ONE_GROUP:
        assert np.array_equal(frames[24:], clean[24:])
    assert (frames.reshape(len(frames), -1).std(axis=1) > 20).all(), "no frame is blank"


@pytest.mark.parametrize("name", ["mkv_h264", "webm_vp9", "ts_h264", "mkv_ffv1", "mkv_no_duration"])
@pytest.mark.parametrize("filling", [b"\0", b"\xff"])
def test_container_broken_in_the_middle_gives_the_rest_and_a_warning(name, filling):
    """Packets are gone with their headers: the frames that are left, in their order."""
    clip = make_clip(name)
    start, end = (list_packets(clip)[number][0] for number in (12, 14))
    broken = clip[:start] + filling * (end - start) + clip[end:]
    with pytest.warns(UserWarning, match="the video `<bytes>` is damaged"):
        frames = read_all(broken)
    assert 8 <= len(frames) <= 30
    assert np.array_equal(frames[:7], read_all(clip)[:7])
    assert (frames.reshape(len(frames), -1).std(axis=1) > 20).all(), "no frame is blank"
    if name.startswith("mkv") and "no_duration" not in name:
        assert read_numbers(frames)[-5:] == [25, 26, 27, 28, 29]


def test_lost_frames_are_replaced_by_the_nearest():
    """Intra-coded, so that each picture stands alone."""
    clip = damage(make_clip("mov_prores_10_bit"), range(10, 13))
    with pytest.warns(UserWarning, match="3 of its frames can't be read, 3 of 30 wanted ones were replaced"):
        numbers = read_numbers(read_all(clip))
    assert numbers[:10] == list(range(10))
    assert numbers[10] == 9
    assert numbers[11] in (9, 13)
    assert numbers[12] == 13
    assert numbers[13:] == list(range(13, 30))


def test_clip_that_ends_early_gives_what_it_has_and_a_warning(tmp_path):
    """Its index says 30 frames, its data ends in the 16th."""
    with (
        av.open(io.BytesIO(make_clip("mp4_mpeg4"))) as source,
        av.open(str(tmp_path / "a.mp4"), "w", container_options={"movflags": "faststart"}) as target,
    ):
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    clip = (tmp_path / "a.mp4").read_bytes()
    position, size = list_packets(clip)[15]
    (tmp_path / "a.mp4").write_bytes(clip[: position + size // 2])
    with pytest.warns(UserWarning, match=re.escape(f"the video `{tmp_path / 'a.mp4'}` is damaged")):
        numbers = read_numbers(read_all(tmp_path / "a.mp4"))
    assert numbers[:13] == list(range(13))
    assert len(numbers) <= 16


@pytest.mark.filterwarnings("ignore:.*is damaged:UserWarning")
def test_every_clip_survives_the_loss_of_its_end():
    """Whatever is cut, frames or the error come, and the frames are the clip's first."""
    for name in CLIPS:
        clip = make_clip(name)
        if CLIPS[name].get("num_frames") == 1:
            continue
        for part in (0.5, 0.9):
            try:
                frames = read_frames(clip[: int(len(clip) * part)], lambda num_available: [0])
            except VideoReadError:
                continue
            assert read_numbers(frames) == [0], name


def test_rotated_clip_that_is_damaged_stays_rotated():
    clip = encode_clip(paint_frames(30), options=SHORT_GOP, rotation=90)
    with pytest.warns(UserWarning, match="is damaged"):
        frames = read_all(damage(clip, range(9, 12), 0))
    assert frames.shape == (30, 96, 64, 3)


def test_log_level_is_left_as_it_was():
    with pytest.warns(UserWarning, match="is damaged"):
        read_all(damage(make_clip("mkv_h264"), range(9, 12), 12))
    assert av.logging.get_level() is None
    av.logging.set_level(av.logging.FATAL)
    try:
        read_all(make_clip("mkv_h264"))
        assert av.logging.get_level() == av.logging.FATAL
    finally:
        av.logging.set_level(None)


def test_threads_do_not_disturb_each_other():
    """Damaged and whole clips at once: each gets its own frames."""
    names = ("mp4_short_groups", "mkv_h264", "webm_vp9", "avi_mpeg4") * 8
    with ThreadPoolExecutor(8) as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        broken = pool.map(read_all, [damage(make_clip(name), range(9, 12)) for name in names])
        whole = list(pool.map(read_all, [make_clip(name) for name in names]))
        list(broken)
    for frames in whole:
        assert read_numbers(frames) == list(range(30))
    assert av.logging.get_level() is None
