"""
A folder of pictures as a video: frame n is the n-th picture by name, `frame_2` before `frame_10`.

As safe as a video file: a picture is one local file, whose content goes to one decoder, chosen by how it
begins. Nothing in its name or content makes that decoder open another resource.
"""

import os
import re

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from .frames_fpig import ChooseIndices, Transform, make_error, stack_frames, to_rgb

IMAGE_SUFFIXES = (".jpeg", ".jpg", ".png", ".webp")
MAX_BYTES = 256 << 20
# Decoder → how the pictures begin that it reads.
SIGNATURES = {
    "mjpeg": re.compile(rb"\xff\xd8\xff"),
    "png": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "webp": re.compile(rb"RIFF.{4}WEBP", re.DOTALL),
}


def list_images(folder: str, name: str) -> list[str]:
    """
    The pictures of a folder in the natural order of their names; hidden and other files are passed over.

    Raises:
        VideoReadError: there is none.
    """
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.name.lower().endswith(IMAGE_SUFFIXES)]
    names = [image for image in names if not image.startswith(".")]
    if not names:
        raise make_error(name, f"it is a folder without a picture ({', '.join(IMAGE_SUFFIXES)})")
    return [os.path.join(folder, image) for image in sorted(names, key=make_natural_key)]


def make_natural_key(name: str) -> tuple[list[str | int], str]:
    """Sorts numbers in names by their value, and names that differ in leading zeros alone as texts."""
    parts = re.split(r"([0-9]+)", name)
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], name


def decode_image(path: str, name: str, max_pixels: int) -> av.VideoFrame:
    """
    Decodes one picture of the video `name`.

    Raises:
        VideoReadError: it is no file, damaged, larger than `max_pixels` or `MAX_BYTES`, or of another kind.
    """
    image = os.path.basename(path)
    if not os.path.isfile(path):  # a pipe would wait for ever
        raise make_error(name, f"its `{image}` is no file")
    with open(path, "rb") as file:
        start = file.read(16)
        decoders = [decoder for decoder, signature in SIGNATURES.items() if signature.match(start)]
        if not decoders:
            raise make_error(name, f"its `{image}` is empty, damaged or none of jpg, png, webp")
        if os.fstat(file.fileno()).st_size > MAX_BYTES:
            raise make_error(name, f"its `{image}` is too large: more than {MAX_BYTES >> 20} MiB")
        content = start + file.read()
    context = av.CodecContext.create(decoders[0], "r")
    # Without "explode" the lost part of a picture that was cut short is grey.
    context.options = {"err_detect": "explode", "max_pixels": str(max_pixels)}
    context.thread_type = "NONE"
    try:
        frames = context.decode(av.Packet(content)) + context.decode(None)
    except av.error.FFmpegError as error:
        reason = f"its `{image}` is damaged or has more than {max_pixels} pixels ({error.strerror})"
        raise make_error(name, reason) from error
    if not frames or frames[0].is_corrupt:
        raise make_error(name, f"its `{image}` is damaged: no picture comes out")
    return frames[0]


def decode_folder(
    folder: str, name: str, choose_indices: ChooseIndices, convert: Transform, max_pixels: int
) -> np.ndarray:
    """Decodes and converts the wanted pictures of a folder, which have one size → [T, H, W, 3] uint8."""
    images = list_images(folder, name)
    wanted = choose_indices(len(images))
    found: dict[int, np.ndarray] = {}
    first_size: tuple[int, ...] = ()
    for index in dict.fromkeys(wanted):
        picture = to_rgb(decode_image(images[index], name, max_pixels), VideoReformatter())
        first_size = first_size or picture.shape[:2]
        if picture.shape[:2] != first_size:
            (height, width), (first_height, first_width) = picture.shape[:2], first_size
            raise make_error(
                name,
                f"its `{os.path.basename(images[index])}` has {width}×{height} pixels but "
                f"`{os.path.basename(images[wanted[0]])}` has {first_width}×{first_height}",
            )
        found[index] = convert(picture)
    return stack_frames(found, wanted)


__all__ = ["IMAGE_SUFFIXES", "decode_folder", "list_images"]
