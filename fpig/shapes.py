"""The generated benchmark `shapes`: captioned videos made here, really encoded, made once and kept.

>>> from fpig.shapes import make_shapes
>>> folder = make_shapes(num_train=6, num_validation=1, num_test=1, cache_dir=getfixture("tmp_path"))
>>> sorted(path.name for path in folder.iterdir())
['metadata.jsonl', 'test', 'train', 'validation']
"""

import hashlib
import json
import multiprocessing
import os
import random
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import numpy as np
from filelock import FileLock
from tqdm.auto import tqdm

from fpig.shapes_captions import write_captions
from fpig.shapes_drawing import FRAME_SIZE, FRAMES_PER_SECOND, NUM_FRAMES, draw_video, encode_video
from fpig.shapes_scenes import SPLITS, Scene, draw_scenes

GENERATOR_VERSION = 1
NUM_CAPTIONS = 5
METADATA_NAME = "metadata.jsonl"
_CHUNK_SIZE = 32


def make_shapes(
    cache_dir: str | os.PathLike | None = None,
    seed: int = 0,
    num_train: int = 6000,
    num_validation: int = 500,
    num_test: int = 500,
    num_workers: int | None = None,
) -> Path:
    """Make the benchmark, or what is still missing of it, and return its folder.

    The folder holds `train/`, `validation/` and `test/` with mp4 files, and `metadata.jsonl` with one line
    per video: `video`, `caption` (a list of 5), `split`, `scene` (its meaning in one line) and `num_bytes`.
    The metadata is written last; a stopped run goes on where it was, damaged videos are made again, and of
    two processes that start at once one waits. Equal arguments give equal scenes, captions and videos.

    Args:
        cache_dir: Where to keep it; by default the environment variable `FPIG_HOME`, else `~/.cache/fpig`.
        seed: Another seed gives another data set.
        num_train: Number of videos of the train split; `num_validation` and `num_test` likewise.
        num_workers: Number of processes that draw and encode; one per core by default, 1 is this process.

    Raises:
        ValueError: a count is not positive, or larger than the number of different scenes.
    """
    num_workers = _count_cores() if num_workers is None else num_workers
    num_scenes = dict(zip(SPLITS, (num_train, num_validation, num_test), strict=True))
    for name, count in {**num_scenes, "workers": num_workers}.items():
        if count < 1:
            raise ValueError(f"`num_{name}` is {count} but must be at least 1; pass a positive number")
    folder = find_cache_dir(cache_dir) / f"shapes-{hash_settings(seed, num_scenes)}"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        recorded_sizes, sizes = _read_recorded_sizes(folder), _measure_sizes(folder)
        damaged = [name for name, size in recorded_sizes.items() if sizes.get(name) != size]
        for name in damaged:
            (folder / name).unlink(missing_ok=True)
        if damaged or not recorded_sizes:
            _make_videos(folder, seed, num_scenes, num_workers)
    return folder


def find_cache_dir(cache_dir: str | os.PathLike | None = None) -> Path:
    """Return the folder for generated data: the argument, else `FPIG_HOME`, else `~/.cache/fpig`."""
    return Path(cache_dir or os.environ.get("FPIG_HOME") or "~/.cache/fpig").expanduser()


def hash_settings(seed: int, num_scenes: dict[str, int]) -> str:
    """Name everything that the generated files depend on by 12 hexadecimal digits."""
    settings = [GENERATOR_VERSION, seed, num_scenes, NUM_CAPTIONS, FRAME_SIZE, NUM_FRAMES, FRAMES_PER_SECOND]
    return hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:12]


def describe_shapes(seed: int, num_scenes: dict[str, int]) -> Iterator[tuple[str, Scene, tuple[str, ...]]]:
    """Yield the path inside the folder, the scene and the captions of every video, without drawing any."""
    for split, scenes in draw_scenes(seed, num_scenes).items():
        for index, scene in enumerate(scenes):
            name = f"{split}/{index:05d}.mp4"
            rng = random.Random(f"shapes captions {seed} {name}")
            yield name, scene, write_captions(scene, NUM_CAPTIONS, rng)


def make_video(name: str, scene: Scene, seed: int) -> bytes:
    """Draw and encode one video of the data set; its name and the seed decide what the scene leaves open."""
    digest = hashlib.sha256(f"shapes drawing {seed} {name}".encode()).digest()
    return encode_video(draw_video(scene, np.random.default_rng(int.from_bytes(digest[:16]))))


def is_whole_mp4(path: Path) -> bool:
    """Whether a file consists of whole mp4 boxes, of which one is the index (`moov`); reads no video data."""
    try:
        num_bytes = path.stat().st_size
        position, box_types = 0, []
        with path.open("rb") as file:
            while position < num_bytes:
                file.seek(position)
                header = file.read(8)
                box_size = int.from_bytes(header[:4])
                if len(header) < 8 or box_size < 8:
                    return False
                box_types.append(header[4:])
                position += box_size
    except FileNotFoundError:
        return False
    return position == num_bytes and b"moov" in box_types


def _read_recorded_sizes(folder: Path) -> dict[str, int]:
    """Size of every video as the metadata has it; empty while there is no metadata."""
    if not (folder / METADATA_NAME).is_file():
        return {}
    rows = [json.loads(line) for line in (folder / METADATA_NAME).read_text().splitlines()]
    return {row["video"]: row["num_bytes"] for row in rows}


def _measure_sizes(folder: Path) -> dict[str, int]:
    """Size of every video that is there."""
    sizes = {}
    for split in SPLITS:
        if (folder / split).is_dir():
            sizes |= {f"{split}/{entry.name}": entry.stat().st_size for entry in os.scandir(folder / split)}
    return sizes


def _count_cores() -> int:
    """Cores that this process may use, which in a container are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _make_videos(folder: Path, seed: int, num_scenes: dict[str, int], num_workers: int) -> None:
    videos = list(describe_shapes(seed, num_scenes))
    for split in SPLITS:
        (folder / split).mkdir(exist_ok=True)
    missing = [(name, scene) for name, scene, _ in videos if not is_whole_mp4(folder / name)]
    chunks = [missing[start : start + _CHUNK_SIZE] for start in range(0, len(missing), _CHUNK_SIZE)]
    num_done = len(videos) - len(missing)
    with tqdm(total=len(videos), initial=num_done, desc="Making shapes", unit="video") as bar:
        if num_workers == 1:
            for chunk in chunks:
                bar.update(_write_videos(folder, chunk, seed))
        else:
            # Forked workers start at once; Windows has none.
            method = "fork" if "fork" in multiprocessing.get_all_start_methods() else None
            with ProcessPoolExecutor(num_workers, multiprocessing.get_context(method)) as executor:
                futures = [executor.submit(_write_videos, folder, chunk, seed) for chunk in chunks]
                for future in as_completed(futures):
                    bar.update(future.result())
    rows = [
        {
            "video": name,
            "caption": captions,
            "split": name.split("/")[0],
            "scene": str(scene),
            "num_bytes": (folder / name).stat().st_size,
        }
        for name, scene, captions in videos
    ]
    _write_beside(folder / METADATA_NAME, "".join(json.dumps(row) + "\n" for row in rows).encode())


def _write_videos(folder: Path, videos: list[tuple[str, Scene]], seed: int) -> int:
    for name, scene in videos:
        _write_beside(folder / name, make_video(name, scene, seed))
    return len(videos)


def _write_beside(path: Path, content: bytes) -> None:
    """Write a file under another name, then give it its own: whoever stops in between leaves no half file."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(content)
    partial.replace(path)
