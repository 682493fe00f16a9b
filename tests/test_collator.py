"""The batch: the model's arguments, padded captions, and the names of the videos."""

import pickle

import pytest
import torch

from fpig.collator import RetrievalCollator
from fpig.tokenizer import train_tokenizer
from processing_fpig import FPigProcessor, FPigVideoProcessor


@pytest.fixture(scope="module")
def collator():
    tokenizer = train_tokenizer(["a red circle moves left", "a star"], max_length=9)
    return RetrievalCollator(FPigProcessor(FPigVideoProcessor(num_frames=2, size=8), tokenizer, max_length=9))


def make_items(*captions):
    generator = torch.Generator().manual_seed(0)
    return [
        {
            "pixel_values": torch.randn(2, 3, 8, 8, generator=generator),
            "caption": caption,
            "video_id": f"train/{index}.mp4",
        }
        for index, caption in enumerate(captions)
    ]


def test_batch_holds_what_the_model_takes_and_the_names(collator):
    items = make_items("a star", "a red circle moves left")
    batch = collator(items)
    assert set(batch) == {"input_ids", "attention_mask", "pixel_values", "video_ids"}
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (2, 7)
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1, 0, 0, 0], [1] * 7]
    assert batch["pixel_values"].shape == (2, 2, 3, 8, 8)
    assert torch.equal(batch["pixel_values"][1], items[1]["pixel_values"])
    assert batch["video_ids"] == ["train/0.mp4", "train/1.mp4"]


def test_ids_are_the_tokenizers(collator):
    batch = collator(make_items("a star", "a red circle moves left"))
    tokenizer = collator.processor.tokenizer
    for row, caption in enumerate(("a star", "a red circle moves left")):
        is_token = batch["attention_mask"][row].bool()
        assert batch["input_ids"][row][is_token].tolist() == tokenizer(caption).input_ids


def test_long_captions_are_cut(collator):
    batch = collator(make_items("a star " * 20))
    assert batch["input_ids"].shape == (1, 9)
    assert batch["input_ids"][0, -1] == collator.processor.tokenizer.eos_token_id


def test_travels_to_worker_processes(collator):
    items = make_items("a star", "a red star")
    batch, copy = collator(items), pickle.loads(pickle.dumps(collator))(items)
    assert copy["video_ids"] == batch["video_ids"]
    for name in ("input_ids", "attention_mask", "pixel_values"):
        assert torch.equal(copy[name], batch[name])
