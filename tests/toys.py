"""A tiny F-Pig with random weights and a tokenizer, and really encoded clips that it tells apart."""

from pathlib import Path

import av
import numpy as np
from conftest import fill_parameters, make_config

from fpig.datasets import CaptionedVideo, load_captioned_videos
from fpig.shapes import make_shapes
from fpig.tokenizer import train_tokenizer
from modeling_fpig import FPigModel
from processing_fpig import FPigProcessor, FPigVideoProcessor

CAPTIONS = ("a red circle moves left", "a blue square blinks", "a green star grows", "two balls rise")
COLORS = ((220, 30, 30), (30, 30, 220), (30, 200, 40), (200, 200, 200), (20, 20, 20))


def write_clip(path: Path, seed: int, num_frames: int = 6) -> Path:
    """An H.264 clip of a bar that moves over a coloured ground; another seed is another clip."""
    generator = np.random.default_rng(seed)
    top, step = generator.integers(0, 20), generator.integers(1, 4)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=8, options={"crf": "18"})
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for index in range(num_frames):
            picture = np.full((32, 32, 3), COLORS[seed % len(COLORS)], np.uint8)
            start = (top + index * step) % 26
            picture[start : start + 6] = generator.integers(0, 256, 3)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def make_records(folder: Path, num_videos: int = 5) -> list[CaptionedVideo]:
    """Clips with one, two, three… captions; the captions of different videos differ."""
    records = []
    for index in range(num_videos):
        captions = tuple(
            f"{CAPTIONS[(index + number) % len(CAPTIONS)]} {'again ' * index}".strip()
            for number in range(index % 3 + 1)
        )
        path = write_clip(folder / f"{index}.mp4", seed=index)
        records.append(CaptionedVideo(f"{index}.mp4", str(path), captions))
    return records


def make_shapes_records(folder: Path) -> list[CaptionedVideo]:
    """The training split of a small `shapes`: six clips of 24 frames with five captions each."""
    made = make_shapes(folder, num_train=6, num_validation=1, num_test=1, num_workers=1)
    return load_captioned_videos(made, "train")


def make_shapes_processor(records: list[CaptionedVideo]) -> FPigProcessor:
    """Four frames of 32 × 32, and a tokenizer of these captions."""
    tokenizer = train_tokenizer([caption for record in records for caption in record.captions], max_length=30)
    return FPigProcessor(FPigVideoProcessor(num_frames=4, size=32), tokenizer)


def make_processor() -> FPigProcessor:
    """Four frames of 24 × 24, as the tiny configuration has it."""
    tokenizer = train_tokenizer([*CAPTIONS, "again"], vocab_size=560, max_length=20)
    return FPigProcessor(FPigVideoProcessor(num_frames=4, size=24), tokenizer, max_length=20)


def make_model(processor: FPigProcessor, **overrides) -> FPigModel:
    """The tiny model for this tokenizer, in evaluation mode, every parameter random."""
    tokenizer = processor.tokenizer
    text_config = {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    model = FPigModel(make_config(text_config=text_config, **overrides)).eval()
    fill_parameters(model)
    return model
