"""What can't be read is refused with one error, quickly and in little memory."""

import io
import os
import pickle
import re
import struct
import subprocess
import sys
import wave
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from make_clips import (
    encode_clip,
    list_packets,
    make_clip,
    read_all,
    read_numbers,
)

from processing_fpig import FPigVideoProcessor, VideoReadError
from processing_fpig.decoding_fpig import read_frames

ROOT = Path(__file__).parents[1]


def make_sound(container_format: str, codec: str) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format=container_format) as container:
        stream = container.add_stream(codec, rate=48000, layout="mono")
        for number in range(8):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            frame.sample_rate, frame.pts = 48000, number * 1024
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def make_wave() -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(8000))
    return file.getvalue()


def cut_before_a_frame(name: str) -> bytes:
    """A clip that ends in the data of its first frame."""
    position, size = list_packets(make_clip(name))[0]
    return make_clip(name)[: position + min(size // 4, 30)]


UNREADABLE = {
    "empty": (lambda: b"", "it is empty"),
    "noise": (lambda: np.random.default_rng(0).bytes(20_000), "in none of the formats"),
    "zeros": (lambda: bytes(100_000), "in none of the formats"),
    "text": (lambda: b"These are words.\n" * 200, "in none of the formats"),
    "wave": (make_wave, "in none of the formats"),
    "m4a": (lambda: make_sound("mp4", "aac"), "it has no video stream"),
    "mka": (lambda: make_sound("matroska", "aac"), "it has no video stream"),
    "ts sound": (lambda: make_sound("mpegts", "aac"), "it has no video stream"),
    "mp4 without its index": (lambda: make_clip("mp4_short_groups")[:4000], "is damaged or in none"),
    "mkv cut": (lambda: cut_before_a_frame("mkv_h264"), "no frame of it can be decoded"),
    "webm cut": (lambda: cut_before_a_frame("webm_vp9"), "no frame of it can be decoded"),
    "fragments cut": (lambda: cut_before_a_frame("mp4_fragments"), "no frame of it can be decoded"),
    "avi cut": (lambda: cut_before_a_frame("avi_mpeg4"), "damaged|no frame of it can be decoded"),
    "ts cut": (lambda: cut_before_a_frame("ts_h264"), "damaged|no frame|no video|frame size is 0×0"),
    "gif cut": (lambda: make_clip("gif")[:20], "damaged|no frame of it can be decoded"),
    "mkv header": (lambda: make_clip("mkv_h264")[:200], "is damaged or in none"),
}


@pytest.mark.filterwarnings("ignore:.*is damaged:UserWarning")
@pytest.mark.parametrize("kind", UNREADABLE)
def test_unreadable_content(kind, tmp_path):
    """As a file, as bytes and as a file object: the same class, with what the video is called and why."""
    make_content, reason = UNREADABLE[kind]
    path = tmp_path / "a clip.mp4"
    path.write_bytes(make_content())
    for video, name in (
        (str(path), path),
        (path, path),
        (make_content(), "<bytes>"),
        (path.open("rb"), path),
    ):
        with pytest.raises(VideoReadError, match=reason) as caught:
            read_all(video)
        assert type(caught.value) is VideoReadError
        assert caught.value.path == str(name)
        assert str(caught.value) == f"can't read the video `{name}`: {caught.value.reason}"


@pytest.mark.parametrize(
    "name",
    [
        "http://127.0.0.1:9/clip.mp4",
        "https://127.0.0.1:9/clip.mp4",
        "rtsp://127.0.0.1:9/clip",
        "concat:{clip}|{clip}",
        "subfile:,,start,0,end,9000,,:{clip}",
        "file:{clip}",
        "file://{clip}",
        "async:file:{clip}",
        "cache:{clip}",
        "pipe:0",
        "fd:0",
        "data:video/mp4;base64,AAAA",
        "lavfi:testsrc",
    ],
)
def test_protocols_are_refused(name, tmp_path):
    (tmp_path / "clip.mp4").write_bytes(make_clip("mp4_short_groups"))
    name = name.format(clip=tmp_path / "clip.mp4")
    with pytest.raises(VideoReadError, match="it names a protocol.*download it first") as caught:
        read_all(name)
    assert caught.value.path == name


def test_a_file_may_be_called_like_a_protocol(tmp_path, monkeypatch):
    """Where it is there it is a file, and only ever opened as one."""
    monkeypatch.chdir(tmp_path)
    for name in ("part:one.mp4", "concat:a.mp4|b.mp4", "-i.mp4", "100%d.mp4", "üñí clip #1?.mp4"):
        Path(name).write_bytes(make_clip("mp4_one_frame"))
        assert read_numbers(read_all(name)) == [0]


@pytest.mark.parametrize("as_bytes", [True, False])
@pytest.mark.parametrize("suffix", ["m3u8", "mp4", "ffconcat"])
@pytest.mark.parametrize(
    "playlist",
    [
        "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:3\n#EXTINF:3.0,\n{clip}\n#EXT-X-ENDLIST\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3.0,\nfile://{clip}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile {clip}\n",
        "ffconcat version 1.0\nfile 'clip.ts'\n",
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period>'
        '<AdaptationSet mimeType="video/mp2t"><Representation id="1" bandwidth="1"><BaseURL>{clip}</BaseURL>'
        "</Representation></AdaptationSet></Period></MPD>",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
        "a=rtpmap:96 H264/90000\n",
    ],
    ids=["hls", "hls_url", "ffconcat", "ffconcat_relative", "dash", "sdp"],
)
def test_playlists_are_not_followed(playlist, suffix, as_bytes, tmp_path):
    """What they point to is there and readable, but not by this way."""
    clip = tmp_path / "clip.ts"
    clip.write_bytes(make_clip("ts_h264"))
    assert len(read_all(clip)) == 30
    path = tmp_path / f"list.{suffix}"
    path.write_text(playlist.format(clip=clip))
    with pytest.raises(VideoReadError, match="in none of the formats"):
        read_all(path.read_bytes() if as_bytes else path)


def test_movie_that_refers_to_another_file_is_not_followed(tmp_path):
    """QuickTime's data reference: the samples are said to lie in another file."""
    (tmp_path / "other.mov").write_bytes(make_clip("mov_alpha"))
    clip = make_clip("mov_alpha")
    own = struct.pack(">I4sI", 12, b"url ", 1)
    assert clip.count(own) == 1 or clip.count(b"alis") == 1
    other = b"file:" + str(tmp_path / "other.mov").encode() + b"\0"
    start = clip.index(b"dref") - 4
    (size,) = struct.unpack(">I", clip[start : start + 4])
    entry = struct.pack(">I4sI", 12 + len(other), b"url ", 0) + other
    box = struct.pack(">I4sII", 16 + len(entry), b"dref", 0, 1) + entry
    grown = bytearray(clip[:start] + box + clip[start + size :])
    for name in (b"dinf", b"minf", b"mdia", b"trak", b"moov"):
        position = grown.rindex(name, 0, start) - 4
        (old,) = struct.unpack(">I", grown[position : position + 4])
        grown[position : position + 4] = struct.pack(">I", old + len(box) - size)
    data = grown.index(b"mdat") + 4
    grown[data : grown.index(b"moov") - 4] = bytes(grown.index(b"moov") - 4 - data)
    try:
        frames = read_all(bytes(grown))
    except VideoReadError:
        return
    assert not frames.any(), "only what this file has may come: its emptied samples"


def test_no_file(tmp_path):
    for path, reason in (
        (tmp_path / "gone.mp4", "there is no such file"),
        ("", "there is no such file"),
        ("a\0b.mp4", "there is no such file"),
        (tmp_path, "it is a folder without a picture"),
        ("/dev/zero", "it is no file"),
    ):
        with pytest.raises(VideoReadError, match=reason) as caught:
            read_all(path)
        assert caught.value.path == str(path)


def run_alone(code: str, *arguments: str) -> str:
    """Runs `code` in a process of its own, which may not grow beyond 6 GiB; what it prints."""
    limits = "import resource, sys\nresource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))\n"
    done = subprocess.run(
        [sys.executable, "-c", limits + code, *arguments],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,  # only a hang takes so long
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


READ = """
from processing_fpig.decoding_fpig import VideoReadError, read_frames
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
for path in sys.argv[1:]:
    before = peak()
    try:
        print(len(read_frames(path, lambda num_available: [0, num_available - 1])), "frames")
    except VideoReadError as error:
        print(peak() - before, error)
"""


def test_pipe_that_nobody_writes_to_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    assert "it is no file" in run_alone(READ, str(tmp_path / "pipe.mp4"))


def replace_size(name: str, old: bytes, new: bytes) -> bytes:
    assert make_clip(name).count(old), "the clip's header is elsewhere"
    return make_clip(name).replace(old, new)


def test_absurd_dimensions_take_no_memory(tmp_path):
    """Headers that promise pictures of 12,000 × 12,000, in files of some kilobytes."""
    width, height = 12_000, 12_000
    apart = {">": struct.pack(">HH", 96, 64), "<": struct.pack("<HH", 96, 64)}
    clips = {
        "gif": replace_size("gif", apart["<"], struct.pack("<HH", width, height)),
        "qtrle.mov": replace_size("mov_alpha", apart[">"], struct.pack(">HH", width, height)),
        "prores.mov": replace_size("mov_prores_10_bit", apart[">"], struct.pack(">HH", width, height)),
        "jpeg.avi": replace_size(
            "avi_mjpeg",
            b"\xff\xc0\x00\x11\x08" + struct.pack(">HH", 64, 96),
            b"\xff\xc0\x00\x11\x08" + struct.pack(">HH", height, width),
        ),
    }
    for name, clip in clips.items():
        (tmp_path / name).write_bytes(clip)
    lines = run_alone(READ, *(str(tmp_path / name) for name in clips)).splitlines()
    assert len(lines) == len(clips)
    for line, name in zip(lines, clips, strict=True):
        assert f"can't read the video `{tmp_path / name}`: " in line
        assert int(line.split()[0]) < 100, f"{name} took memory: {line}"


def make_strip() -> bytes:
    """A picture of 33,000 × 1 whose file is small: with a short side of 224 it would have 1.6 gigapixels."""
    return encode_clip(np.zeros((1, 1, 33_000, 3), np.uint8), "gif", "gif", "rgb8")


@pytest.mark.parametrize("make", [make_strip, lambda: np.zeros((2, 3, 99, 3), np.uint8)])
def test_strips_are_refused(make):
    """The crop's resizing keeps the ratio: the picture would grow a thousandfold."""
    with pytest.raises(VideoReadError, match=r"frame size is (33000×1|99×3); one side is at most 32 times"):
        FPigVideoProcessor(num_frames=1)(make())
    frames = np.zeros((2, 3, 96, 3), np.uint8)
    assert FPigVideoProcessor(num_frames=1, size=8)(frames)["pixel_values"].shape == (1, 1, 3, 8, 8)


FUZZ = """
import warnings
sys.path.insert(0, "tests")
import numpy as np
from make_clips import make_clip
from processing_fpig.decoding_fpig import VideoReadError, read_frames
warnings.simplefilter("ignore")
for name in sys.argv[2:]:
    num_read = 0
    for seed in range(int(sys.argv[1])):
        generator = np.random.default_rng(seed)
        clip = np.frombuffer(make_clip(name), np.uint8).copy()
        places = generator.integers(0, len(clip) if seed % 2 else min(len(clip), 700), 1 + seed % 13)
        clip[places] = generator.integers(0, 256, len(places))
        try:
            frames = read_frames(clip.tobytes(), lambda num: [0, num // 2, num - 1])
        except VideoReadError as error:
            if not (error.reason and error.path == "<bytes>"):
                raise SystemExit(f"{name} {seed}: {error}") from None
        else:
            num_read += 1
            if frames.ndim != 4 or len(frames) != 3 or frames.shape[-1] != 3:
                raise SystemExit(f"{name} {seed}: {frames.shape}")
    print("read:", name, num_read)
"""
FUZZED = ("mp4_short_groups", "mkv_h264", "webm_vp9", "avi_mpeg4", "ts_h264", "gif", "mov_prores_10_bit")


def test_flipped_bytes_give_frames_or_the_error():
    lines = run_alone(FUZZ, "40", *FUZZED).splitlines()
    num_read = {line.split()[1]: int(line.split()[2]) for line in lines if line.startswith("read:")}
    assert list(num_read) == list(FUZZED)
    assert all(0 < count <= 40 for count in num_read.values())
    assert min(num_read.values()) < 40, "some were too broken to read: the bytes did reach the decoder"


def test_error_survives_pickling():
    with pytest.raises(VideoReadError) as caught:
        read_all(b"no video")
    again = pickle.loads(pickle.dumps(caught.value))
    assert type(again) is VideoReadError
    assert (str(again), again.path, again.reason) == (
        str(caught.value),
        caught.value.path,
        caught.value.reason,
    )
    assert again.path == "<bytes>"
    assert isinstance(again, ValueError)


class Clips(torch.utils.data.Dataset):
    """Reads its paths, in whichever process it is asked."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        return FPigVideoProcessor(num_frames=2, size=32)(self.paths[index])["pixel_values"][0]


def test_error_of_a_worker_is_the_same_error_here(tmp_path):
    (tmp_path / "good.mp4").write_bytes(make_clip("mp4_one_frame"))
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    loader = torch.utils.data.DataLoader(
        Clips([tmp_path / "good.mp4", tmp_path / "bad.mp4"]), num_workers=1, timeout=120
    )
    batches = iter(loader)
    assert next(batches).shape == (1, 2, 3, 32, 32)
    with pytest.raises(VideoReadError, match=re.escape(f"can't read the video `{tmp_path / 'bad.mp4'}`")):
        next(batches)
    with pytest.raises(StopIteration):
        next(batches)


def test_nothing_stays_open(tmp_path):
    """Reading, damaged and refused, 40 times over: no file descriptor is left behind."""
    good, bad = tmp_path / "good.mp4", tmp_path / "bad.mp4"
    good.write_bytes(make_clip("mp4_short_groups"))
    bad.write_bytes(make_clip("mp4_short_groups")[:3000])
    folder = Path("/proc/self/fd")
    if not folder.is_dir():
        pytest.skip("this system doesn't list open files")
    before = len(list(folder.iterdir()))
    for _ in range(40):
        read_frames(good, lambda num_available: [3])
        with pytest.raises(VideoReadError):
            read_all(bad)
    assert len(list(folder.iterdir())) <= before
