"""The frame table of a video: its packets and when they are shown, read without decoding a picture."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

import av
from av.container import InputContainer as Container
from av.video.stream import VideoStream as Stream

# These containers carry no presentation times that could be trusted: their frames are counted while decoding.
FORMATS_WITHOUT_TIMES = {"avi"}
# Which have pictures that no other picture leans on, and decoders that can leave them out.
CODECS_WITH_UNREFERENCED = {"h264", "mpeg2video"}
# Above it a second reading of the file takes less time than the memory to keep its packets.
MAX_KEPT_BYTES = 16 * 2**20


class PacketEntry(NamedTuple):
    """What the frame table keeps of a packet; the table is in decode order."""

    pts: int | None
    is_keyframe: bool
    is_shown: bool


def demux(container: Container, stream: Stream) -> Iterator[av.Packet]:
    """The stream's packets that hold data, up to the end or to where the container is broken."""
    with suppress(av.error.FFmpegError):
        for packet in container.demux(stream):
            if packet.size:
                yield packet


@contextmanager
def collect_errors() -> Iterator[list[tuple[int, str, str]]]:
    """What libav reports on this thread: containers pass over broken places without another sign."""
    is_silent = av.logging.get_level() is None
    if is_silent:
        av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture() as logs:
            # PyAV leaves out what repeats the last message; after this one nothing does.
            av.logging.log(av.logging.ERROR, __name__, "start")
            logs.clear()
            yield logs
    finally:
        if is_silent:
            av.logging.set_level(None)


def list_packets(
    container: Container, stream: Stream, name: str
) -> tuple[list[PacketEntry], list[av.Packet] | None]:
    """
    The frame table, in decode order, and the packets themselves, `None` if they are larger than
    `MAX_KEPT_BYTES`; warns where the container is broken.
    """
    table, packets, problems = [], [], []
    num_bytes = 0
    is_vp8 = stream.codec_context.name == "vp8"
    with collect_errors() as logs:
        for packet in demux(container, stream):
            # VP8 has frames that are never shown, and a bit says so. Later codecs pack them with a shown one.
            is_hidden = is_vp8 and not memoryview(packet)[0] & 0x10
            table.append(PacketEntry(packet.pts, packet.is_keyframe, not (packet.is_discard or is_hidden)))
            if packet.is_corrupt:
                problems.append("a packet is incomplete")
            num_bytes += packet.size
            if num_bytes <= MAX_KEPT_BYTES:
                packets.append(packet)
            else:
                packets.clear()
    problems += [message.strip() for level, _, message in logs if level <= av.logging.ERROR]
    if problems:
        warnings.warn(f"the video `{name}` is damaged: {problems[0]}", stacklevel=2)
    return table, packets if num_bytes <= MAX_KEPT_BYTES else None


def list_times(table: list[PacketEntry], format_name: str) -> list[int] | None:
    """When the frames are shown, in order; None where the container doesn't tell it of each."""
    if format_name in FORMATS_WITHOUT_TIMES or any(entry.pts is None for entry in table):
        return None
    times = sorted(entry.pts for entry in table if entry.is_shown)
    return times if len(set(times)) == len(times) else None


def find_group_starts(table: list[PacketEntry]) -> list[int]:
    """
    Where decoding has to start for every packet: the keyframe at or before it in decode order.

    A picture that is shown before that keyframe may lean on the group before: it starts one keyframe earlier.
    """
    starts, previous, current = [], 0, 0
    for position, entry in enumerate(table):
        if entry.is_keyframe:
            previous, current = current, position
        leads = entry.pts < table[current].pts
        starts.append(previous if leads else current)
    return starts


def find_needed(table: list[PacketEntry], wanted: set[int]) -> set[int]:
    """Positions of the packets to decode for the frames at `wanted` times."""
    starts = find_group_starts(table)
    needed: set[int] = set()
    for position, entry in enumerate(table):
        if entry.pts in wanted:
            needed.update(range(starts[position], position + 1))
    return needed


def can_skip_unreferenced(decoder: av.VideoCodecContext) -> bool:
    """
    Whether the decoder can leave out pictures that no other leans on.

    In HEVC with temporal layers it would leave out some that pictures of a higher layer lean on. The number
    of layers stands in the header that mp4 and Matroska have.
    """
    if decoder.name != "hevc":
        return decoder.name in CODECS_WITH_UNREFERENCED
    header = decoder.extradata or b""
    return len(header) > 21 and header[0] == 1 and header[21] >> 3 & 7 == 1


def find_nearest_keyframes(table: list[PacketEntry], times: list[int]) -> list[int]:
    """For each of `times` that of the nearest shown keyframe, the earlier of two; itself if there is none."""
    keyframe_times = sorted(entry.pts for entry in table if entry.is_keyframe and entry.is_shown)
    return [min(keyframe_times or [time], key=lambda other, time=time: abs(other - time)) for time in times]


__all__ = [
    "PacketEntry",
    "can_skip_unreferenced",
    "demux",
    "find_group_starts",
    "find_nearest_keyframes",
    "find_needed",
    "list_packets",
    "list_times",
]
