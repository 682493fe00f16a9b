"""
Starts a page that searches videos by a sentence and shows why they were found.

    fpig demo FOLDER VIDEOS

VIDEOS is a folder of videos, an index made by `fpig index`, or captioned videos as `train.py` takes them,
such as "shapes"; their captions are then the candidates for those nearest to a pseudo-query.
"""

import argparse
import socket
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from fpig.index import fingerprint_model, index_videos, is_index, load_index
from fpig.search import add_encoder_arguments, find_videos

if TYPE_CHECKING:
    from fpig.gallery import Gallery

# A folder with one of these holds a data set, and not videos alone.
DATASET_FILES = (
    "metadata.csv", "metadata.jsonl", "metadata.parquet", "dataset_dict.json", "dataset_info.json",
)  # fmt: skip


def require_gradio() -> None:
    """
    Raises:
        ModuleNotFoundError: gradio is not installed.
    """
    if find_spec("gradio") is None:
        raise ModuleNotFoundError("`gradio` is not installed and makes the page; pip install 'fpig[demo]'")


def reserve_port(host: str, port: int) -> socket.socket:
    """
    A socket that no other process can take while the videos are encoded. Who connects waits until then.

    Raises:
        OSError: the port is taken, or this machine has no such address.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        reserved = socket.socket(family, kind, protocol)
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(address)
        reserved.listen()
    except OSError as error:
        raise OSError(
            f"`--host` {host} and `--port` {port} can't be used ({error.strerror}); choose others: port 0 is "
            "any that is free"
        ) from error
    return reserved


def read_captions(path: Path) -> list[str]:
    """
    The different lines of a text file.

    Raises:
        OSError: no such file, or it can't be read.
        ValueError: no line with text, or another encoding than UTF-8.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise OSError(
            f"`--captions` is {path}, which can't be read ({error.strerror}); pass a text file"
        ) from error
    except UnicodeDecodeError as error:
        raise ValueError(f"`--captions` is {path}, which is not UTF-8 text ({error}); convert it") from error
    captions = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not captions:
        raise ValueError(f"`--captions` is {path}, which has no caption; write one a line")
    return captions


def is_dataset(source: str) -> bool:
    """Whether captions come with the videos: anything but a folder of plain videos."""
    folder = Path(source)
    return not folder.is_dir() or any((folder / name).is_file() for name in DATASET_FILES)


def find_captioned(source: str, split: str | None) -> tuple[list[Path], list[str]]:
    """
    The videos of a data set and their different captions.

    Raises:
        OSError: no such data set, or videos of it are missing.
        ValueError: it can't be read, or holds its videos within itself.
    """
    from fpig.datasets import load_captioned_videos

    records = load_captioned_videos(source, split or ("test" if source == "shapes" else None))
    embedded = [record.video_id for record in records if isinstance(record.video, bytes)]
    if embedded:
        raise ValueError(
            f"`{source}` holds videos within its rows, such as {embedded[0]}, and a page plays files; write "
            "them to a folder with a metadata.csv"
        )
    captions = dict.fromkeys(caption for record in records for caption in record.captions)
    return [Path(record.video) for record in records], list(captions)


def load_gallery(options: argparse.Namespace) -> "Gallery":
    """
    The model, and the videos: embedded, unless they are an index.

    Raises:
        OSError: the model, the videos or the captions are not there.
        ValueError: one of them can't be used.
    """
    source, folder = options.videos, Path(options.videos)
    captions = [] if options.captions is None else read_captions(options.captions)
    paths = None
    if is_dataset(source) and not is_index(folder):
        paths, own_captions = find_captioned(source, options.split)
        captions = captions or own_captions
    elif options.split is not None:
        raise ValueError(f"`--split` is {options.split}, and `{source}` has no splits; leave it out")
    elif not is_index(folder):
        paths = find_videos(folder)

    # Only now, and not at the top: it takes seconds, in which a typing error can be told.
    from fpig.embedding import load_encoder
    from fpig.gallery import Gallery

    model, processor = load_encoder(options.model, options.revision, options.trust_remote_code)
    if paths is None:
        index = load_index(folder, fingerprint_model(model, processor))
    else:
        index = index_videos(model, processor, paths, options.batch_size, options.num_workers)
    return Gallery(model, processor, index, captions)


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="fpig demo", description="A page that searches videos by a sentence and shows why."
    )
    add_encoder_arguments(parser)
    parser.add_argument(
        "videos",
        metavar="VIDEOS",
        help="a folder of videos; an index made by fpig index; captioned videos: a csv, jsonl or parquet "
        "file, a folder with such a file named metadata.*, a repository of datasets, or shapes",
    )
    parser.add_argument("--split", help="of captioned videos (default: all; of shapes: test)")
    parser.add_argument(
        "--captions", metavar="FILE", type=Path, help="captions to explain videos by, one a line"
    )
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 for all (default: %(default)s)")
    parser.add_argument("--port", type=int, default=7860, help="0 for any free one (default: %(default)s)")
    parsed = parser.parse_args(arguments)
    if not 0 <= parsed.port < 1 << 16:
        parser.error(f"`--port` is {parsed.port}; it must be between 0 and 65535")
    if not parsed.videos:
        parser.error("`VIDEOS` is empty; pass a folder, an index or captioned videos")
    return parsed


def main(arguments: list[str] | None = None) -> None:
    """Serves until it is interrupted; videos that can't be read go to stderr."""
    options = parse_arguments(arguments)
    try:
        require_gradio()
        reserved = reserve_port(options.host, options.port)
        gallery = load_gallery(options)
    except (ModuleNotFoundError, OSError, ValueError) as error:
        raise SystemExit(f"error: {' '.join(str(error).split())}") from error
    for reason in gallery.index.unreadable.values():
        sys.stderr.write(f"skipped: {reason}\n")

    from fpig.demo_page import serve

    host = f"[{options.host}]" if ":" in options.host else options.host
    sys.stdout.write(f"{len(gallery.index)} videos: http://{host}:{reserved.getsockname()[1]}\n")
    sys.stdout.flush()
    with suppress(KeyboardInterrupt):
        serve(gallery, reserved)


if __name__ == "__main__":
    main()
