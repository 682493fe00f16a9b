"""Frame n is frame n: clips of many kinds, each frame of which shows its number."""

import io
import warnings

import av
import numpy as np
import pytest
import torch
from av.video.reformatter import VideoReformatter
from make_clips import (
    CLIPS,
    OPEN_GOP,
    SHORT_GOP,
    X264,
    encode_clip,
    get_scheduling,
    list_packets,
    make_clip,
    paint_frames,
    read_all,
    read_numbers,
)
from torch.utils.data import DataLoader

from processing_fpig import FPigVideoProcessor, VideoReadError, decoding_fpig, frame_table_fpig
from processing_fpig.decoding_fpig import read_frame_seconds, read_frames
from processing_fpig.frames_fpig import to_rgb


@pytest.fixture(autouse=True)
def no_warnings():
    """None of these clips is damaged, and none may be taken for it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def test_making_a_clip_leaves_this_process_its_priority():
    before = get_scheduling()
    make_clip.__wrapped__("mp4_av1")
    assert get_scheduling() == before


def decode_from_the_start(clip: bytes) -> np.ndarray:
    """Every frame as libav's plain loop gives them: no frame table, no keyframes, nothing skipped."""
    with av.open(io.BytesIO(clip)) as container:
        return np.stack([to_rgb(frame, VideoReformatter()) for frame in container.decode(video=0)])


@pytest.mark.parametrize("name", CLIPS)
def test_every_frame_alone_is_that_frame(name):
    """Each frame is read on its own, so that each is entered at its own keyframe."""
    clip = make_clip(name)
    num_frames = CLIPS[name].get("num_frames", 30)
    plain = decode_from_the_start(clip)
    assert read_numbers(plain) == list(range(num_frames)), "the clip is not what this test needs"
    counts = []

    def choose(num_available):
        counts.append(num_available)
        return [number]

    for number in range(num_frames):
        frame = read_frames(clip, choose)
        assert read_numbers(frame) == [number]
        assert np.array_equal(frame[0], plain[number])
    assert set(counts) == {num_frames}


@pytest.mark.parametrize("name", CLIPS)
def test_frames_in_any_order_and_repeated(name):
    clip = make_clip(name)
    last = CLIPS[name].get("num_frames", 30) - 1
    wanted = [last, 0, last // 2, last // 2, 0, last // 3]
    frames = read_frames(clip, lambda num_available: wanted)
    assert frames.dtype == torch.uint8
    assert read_numbers(frames) == wanted
    assert np.array_equal(frames.numpy(), decode_from_the_start(clip)[wanted])


@pytest.mark.parametrize("name", CLIPS)
def test_seconds_are_those_at_which_frames_were_encoded(name):
    last = CLIPS[name].get("num_frames", 30) - 1
    wanted = [last, 0, last // 2, last // 3]
    times = CLIPS[name].get("times") or range(0, 3000, 100)
    seconds = read_frame_seconds(make_clip(name), lambda num_available: wanted)
    assert seconds == pytest.approx([times[index] / 1000 for index in wanted], abs=1e-3)


def test_decoded_frames_have_no_seconds():
    with pytest.raises(TypeError, match="`videos` holds a ndarray; a video is a path"):
        read_frame_seconds(np.zeros((3, 8, 8, 3), np.uint8), lambda num_available: [0])


@pytest.mark.parametrize("name", CLIPS)
def test_colours_are_the_painted_ones(name):
    """Coding loses a little; red for blue would be off by far more."""
    settings = CLIPS[name]
    size = {key: settings[key] for key in ("width", "height") if key in settings}
    painted = paint_frames(settings.get("num_frames", 30), **size)
    error = np.abs(read_all(make_clip(name)).astype(int) - painted).mean()
    assert error < (22 if "gif" in name else 5)


@pytest.mark.parametrize(("matrix", "red", "blue"), [("bt709", 0.2126, 0.0722), ("smpte170m", 0.299, 0.114)])
@pytest.mark.parametrize("is_full_range", [True, False])
@pytest.mark.parametrize("pixel_format", ["yuv444p", "yuv444p10le"])
def test_colours_by_the_standards_formula(matrix, red, blue, is_full_range, pixel_format):
    """The file's own matrix and range: luma Y and the colour differences U and V, in the units of 8 bits."""
    planes = np.stack([np.full((64, 64), value) for value in (120, 100, 160)])
    planes[0, :, 32:] = 70
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        tags = f"colormatrix={matrix}:fullrange={'on' if is_full_range else 'off'}"
        stream = container.add_stream("libx264", rate=10, options={"qp": "0", "x264-params": tags})
        stream.width = stream.height = 64
        stream.pix_fmt = pixel_format
        is_deep = pixel_format.endswith("10le")
        frame = av.VideoFrame(64, 64, pixel_format)
        for plane, values in zip(frame.planes, planes, strict=True):
            plane.update((values * 4).astype("<u2") if is_deep else values.astype(np.uint8))
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    luma, blueness, redness = planes[0].astype(float), -28.0, 32.0
    if not is_full_range:
        luma, blueness, redness = (luma - 16) * 255 / 219, blueness * 255 / 224, redness * 255 / 224
    r, b = luma + 2 * (1 - red) * redness, luma + 2 * (1 - blue) * blueness
    g = (luma - red * r - blue * b) / (1 - red - blue)
    expected = np.clip(np.stack([r, g, b], axis=-1), 0, 255)
    assert np.abs(read_all(file.getvalue())[0] - expected).max() < 1.6


def test_names_and_containers_are_as_promised():
    """What the clips' names say is in the files."""
    with av.open(io.BytesIO(make_clip("mp4_one_group_b_frames"))) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        assert sum(packet.is_keyframe for packet in packets) == 1
        assert [packet.pts for packet in packets] != sorted(packet.pts for packet in packets)
    with av.open(io.BytesIO(make_clip("mkv_no_duration"))) as container:
        assert container.duration is None
    for name in ("mkv_h264", "webm_vp9", "gif", "mp4_fragments"):
        with av.open(io.BytesIO(make_clip(name))) as container:
            assert container.streams.video[0].frames in (0, 30)
    with av.open(io.BytesIO(make_clip("mp4_10_bit"))) as container:
        assert container.streams.video[0].pix_fmt == "yuv420p10le"
    with av.open(io.BytesIO(make_clip("mp4_variable_rate"))) as container:
        times = sorted(packet.pts for packet in container.demux(video=0) if packet.size)
        assert len(set(np.diff(times))) > 1


@pytest.mark.parametrize(("rotation", "num_quarters"), [(90, 1), (180, 2), (-90, 3)])
@pytest.mark.parametrize("container_format", ["mp4", "mov", "matroska"])
def test_rotation_as_a_player_shows_it(rotation, num_quarters, container_format):
    """`rotation` is counter-clockwise, as numpy's `rot90` turns."""
    painted = paint_frames(3)
    clip = encode_clip(painted, container_format, options=SHORT_GOP, rotation=rotation)
    frames = read_all(clip)
    turned = np.rot90(painted, num_quarters, axes=(1, 2))
    assert frames.shape == turned.shape
    assert np.abs(frames.astype(int) - turned).mean() < 6
    assert read_numbers(np.rot90(frames, -num_quarters, axes=(1, 2))) == [0, 1, 2]


def test_rotation_against_the_file_format():
    """The matrix in the track header, as the mp4 standard has it: (0 1; -1 0) is a quarter clockwise."""
    clip = bytearray(encode_clip(paint_frames(2), options=SHORT_GOP))
    matrix = clip.index(b"tkhd") + 4 + 4 + 20 + 16
    one = 1 << 16
    values = (0, one, 0, -one, 0, 0, 64 * one, 0, 1 << 30)
    clip[matrix : matrix + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in values)
    frames = read_all(bytes(clip))
    assert frames.shape == (2, 96, 64, 3)
    assert read_numbers(np.rot90(frames, 1, axes=(1, 2))) == [0, 1]


def test_frames_cut_away_by_an_edit_list_are_not_counted():
    """A player starts at time 0; what lies before is there to decode the rest."""
    times = [(number - 5) * 100 for number in range(20)]
    clip = encode_clip(paint_frames(20), options=SHORT_GOP, times=times)
    assert read_numbers(read_all(clip)) == list(range(5, 20))
    assert read_numbers(read_frames(clip, lambda num_available: [0, num_available - 1])) == [5, 19]


def test_two_frames_at_one_time_are_two_frames():
    clip = encode_clip(
        paint_frames(6), "matroska", "ffv1", pixel_format="yuv444p", times=[0, 100, 100, 200, 300, 300]
    )
    assert read_numbers(read_all(clip)) == [0, 1, 2, 3, 4, 5]


def test_vp8_frames_that_are_never_shown_are_not_counted():
    """A copy of a keyframe with its show bit off goes before it, as encoders put their reference frames."""
    file = io.BytesIO()
    with (
        av.open(io.BytesIO(make_clip("webm_vp8"))) as source,
        av.open(file, "w", format="webm") as target,
    ):
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if not packet.size:
                continue
            if packet.is_keyframe and packet.pts:
                hidden = av.Packet(bytes([bytes(packet)[0] & ~0x10]) + bytes(packet)[1:])
                hidden.pts, hidden.dts, hidden.time_base = packet.pts - 10, packet.dts - 10, packet.time_base
                hidden.stream = stream
                target.mux(hidden)
            packet.stream = stream
            target.mux(packet)
    assert len(list_packets(file.getvalue())) == 31
    assert read_numbers(read_all(file.getvalue())) == list(range(30))


def test_first_stream_of_pictures_is_read():
    """Two video streams and a sound stream: the first video; the cover of a recording is none."""
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        sound = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        streams = [container.add_stream("libx264", rate=10, options=X264) for _ in range(2)]
        for stream in streams:
            stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for number, picture in enumerate(paint_frames(8)):
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
            samples.sample_rate, samples.pts = 8000, number * 800
            container.mux(sound.encode(samples))
            for stream, shown in zip(streams, (picture, 255 - picture), strict=True):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(shown)))
        for stream in (*streams, sound):
            container.mux(stream.encode(None))
    assert read_numbers(read_all(file.getvalue())) == list(range(8))


def test_groups_without_a_wanted_frame_are_not_decoded():
    """The middle of the clip is destroyed; frames of other groups come out whole, none is called lost."""
    clip = bytearray(make_clip("mp4_short_groups"))
    for position, size in list_packets(bytes(clip))[8:24]:
        clip[position : position + size] = bytes(size)
    wanted = [0, 5, 7, 25, 29]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "the video `<bytes>` is damaged: (?!.*can't be read)")
        frames = read_frames(bytes(clip), lambda num_available: wanted)
    assert np.array_equal(frames, decode_from_the_start(make_clip("mp4_short_groups"))[wanted])


def test_size_that_changes_midway_becomes_the_first():
    """As a broadcast may: two transport streams, one after the other."""
    first = encode_clip(paint_frames(8), "mpegts", options=SHORT_GOP)
    times = [1000 + 100 * number for number in range(8)]
    second = encode_clip(paint_frames(8, 128, 80), "mpegts", options=SHORT_GOP, times=times)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the joint may be called damaged
        frames = read_all(first + second)
    assert frames.shape == (16, 64, 96, 3)
    assert read_numbers(frames) == [*range(8), *range(8)]


@pytest.mark.parametrize("container_format", ["mp4", "matroska", "avi"])
def test_texts_in_another_encoding_do_no_harm(container_format):
    file = io.BytesIO()
    with av.open(file, "w", format=container_format) as container:
        container.metadata["title"] = "a title"
        stream = container.add_stream("libx264", rate=10, options=OPEN_GOP)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for picture in paint_frames(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode(None))
    clip = file.getvalue().replace(b"a title", b"caf\xe9 \xff\xfe")
    assert clip != file.getvalue()
    assert read_numbers(read_all(clip)) == [0, 1, 2]


def test_chosen_indices_are_checked_by_who_chooses():
    """An error of the choice is not taken for a bad video."""

    def refuse(num_available):
        raise ValueError(f"`num_available` is {num_available}")

    with pytest.raises(ValueError, match="`num_available` is 30") as caught:
        read_frames(make_clip("mp4_short_groups"), refuse)
    assert not isinstance(caught.value, VideoReadError)


@pytest.mark.parametrize("name", ["mp4_short_groups", "avi_mpeg4"])
def test_index_beyond_the_clip_is_an_error(name):
    with pytest.raises(IndexError):
        read_frames(make_clip(name), lambda num_available: [num_available])


@pytest.mark.parametrize("name", ["mp4_short_groups", "mp4_open_groups", "ts_mpeg2", "webm_vp9"])
def test_files_too_large_to_keep_their_packets_give_the_same_frames(name, monkeypatch):
    clip, wanted = make_clip(name), [3, 17, 18, 29]
    expected = read_frames(clip, lambda num_available: wanted)
    monkeypatch.setattr(frame_table_fpig, "MAX_KEPT_BYTES", 100)
    with av.open(io.BytesIO(clip)) as container:
        table, packets = frame_table_fpig.list_packets(container, container.streams.video[0], name)
    assert packets is None
    assert len(table) == 30
    assert torch.equal(read_frames(clip, lambda num_available: wanted), expected)


@pytest.mark.parametrize("name", ["mp4_one_group_b_frames", "mp4_hevc", "ts_mpeg2"])
def test_pictures_that_nothing_leans_on_are_left_out(name, monkeypatch):
    """Each frame comes out without them; fewer pictures come out of the decoder than with them."""
    counts = []
    for can_skip in (decoding_fpig.can_skip_unreferenced, lambda decoder: False):
        monkeypatch.setattr(decoding_fpig, "can_skip_unreferenced", can_skip)
        num_pictures = 0
        for number in range(30):
            with decoding_fpig.open_clip(make_clip(name), name) as (container, stream):
                table, packets = frame_table_fpig.list_packets(container, stream, name)
                decoder = CountingDecoder(stream.codec_context)
                wanted = sorted(entry.pts for entry in table)[number]
                frames = decoding_fpig.decode_groups(decoder, packets, table, {wanted}, lambda frame: frame)
            assert read_numbers([frames[wanted]]) == [number]
            num_pictures += decoder.num_pictures
        counts.append(num_pictures)
    assert counts[0] < 0.8 * counts[1]


def test_hevc_with_temporal_layers_is_decoded_whole():
    """There a picture that none of its own layer leans on may be needed by a higher one."""
    parameters = "log-level=none:keyint=12:crf=12:pools=1:bframes=3:temporal-layers=3"
    clip = encode_clip(paint_frames(30), codec="libx265", options={"x265-params": parameters})
    for content, expected in ((clip, False), (make_clip("mp4_hevc"), True)):
        with decoding_fpig.open_clip(content, "hevc") as (_, stream):
            assert decoding_fpig.can_skip_unreferenced(stream.codec_context) is expected
    plain = decode_from_the_start(clip)
    for number in range(30):
        assert np.array_equal(read_frames(clip, lambda num_available, n=number: [n])[0], plain[number])


class CountingDecoder:
    """A decoder that counts the pictures it gives."""

    def __init__(self, decoder):
        object.__setattr__(self, "decoder", decoder)
        object.__setattr__(self, "num_pictures", 0)

    def __getattr__(self, name):
        return getattr(self.decoder, name)

    def __setattr__(self, name, value):
        setattr(self.decoder, name, value)

    def decode(self, packet):
        frames = self.decoder.decode(packet)
        object.__setattr__(self, "num_pictures", self.num_pictures + len(frames))
        return frames


def find_keyframes(clip: bytes) -> list[int]:
    """Which frames are keyframes, as the decoder says."""
    with av.open(io.BytesIO(clip)) as container:
        return [number for number, frame in enumerate(container.decode(video=0)) if frame.key_frame]


@pytest.mark.parametrize(
    "name", ["mp4_short_groups", "mp4_open_groups", "mp4_one_group_b_frames", "ts_mpeg2", "mkv_variable_rate"]
)
def test_keyframes_only_takes_the_nearest_in_time(name):
    clip = make_clip(name)
    keyframes, wanted = find_keyframes(clip), list(range(30))
    times = CLIPS[name].get("times") or range(30)
    expected = [min(keyframes, key=lambda other: (abs(times[other] - times[n]), other)) for n in wanted]
    frames = read_frames(clip, lambda num_available: wanted, keyframes_only=True)
    assert read_numbers(frames) == expected
    assert len(set(expected)) == len(keyframes)
    seconds = read_frame_seconds(clip, lambda num_available: wanted, keyframes_only=True)
    exact = read_frame_seconds(clip, lambda num_available: expected)
    assert seconds == exact


def test_keyframes_only_leaves_what_has_no_keyframe_times():
    wanted = [3, 17]
    frames = read_frames(make_clip("avi_mpeg4"), lambda num_available: wanted, keyframes_only=True)
    assert read_numbers(frames) == wanted


def test_keyframes_only_through_the_processor(tmp_path):
    """It is a setting that is saved, and frames are read by it."""
    clip = make_clip("mp4_short_groups")
    FPigVideoProcessor(num_frames=30, size=32, keyframes_only=True).save_pretrained(tmp_path)
    processor = FPigVideoProcessor.from_pretrained(tmp_path)
    pixel_values = processor(clip)["pixel_values"][0]
    changes = [n for n in range(1, 30) if not torch.equal(pixel_values[n], pixel_values[n - 1])]
    assert len(changes) == len(find_keyframes(clip)) - 1
    assert processor.read_frame_seconds(clip)[:4] == [0, 0, 0, 0]
    with pytest.raises(ValueError, match="`keyframes_only` is 'yes'; it must be True or False"):
        FPigVideoProcessor(keyframes_only="yes")


def test_frames_are_transformed_one_by_one():
    """A frame that is wanted twice is transformed once."""
    seen = []

    def halve(frame):
        seen.append(frame.shape)
        return frame[::2, ::2]

    clip, wanted = make_clip("mp4_short_groups"), [5, 20, 5]
    frames = read_frames(clip, lambda num_available: wanted, halve)
    assert torch.equal(frames, read_frames(clip, lambda num_available: wanted)[:, ::2, ::2])
    assert seen == [(64, 96, 3)] * 2


def test_forked_workers_read_what_this_process_reads_and_do_not_hang():
    processor = FPigVideoProcessor(num_frames=6, size=32)
    clips = [make_clip(name) for name in CLIPS]
    # By now every decoder has run here, and torch has its threads: what they hold is forked with them.
    expected = [processor(clip)["pixel_values"] for clip in clips]
    loader = DataLoader(
        clips,
        batch_size=None,
        num_workers=2,
        collate_fn=lambda clip: processor(clip)["pixel_values"],
        multiprocessing_context="fork",
        timeout=60,
    )
    for _ in range(2):
        for pixel_values, values_here in zip(loader, expected, strict=True):
            assert torch.equal(pixel_values, values_here)
