"""Items of the training dataset → one batch with the model's argument names."""

from dataclasses import dataclass
from typing import Any

import torch
from transformers import ProcessorMixin


@dataclass
class RetrievalCollator:
    """Stacks videos and tokenizes their captions, padded to the longest of the batch.

    The batch holds `pixel_values` [B, T, 3, S, S], `input_ids` and `attention_mask` [B, L], and
    `video_ids`, a list of B names that the model does not take: the trainer keeps them for its error
    messages.

    Args:
        processor: Its tokenizer side is used; the dataset has already used the video side.
    """

    processor: ProcessorMixin

    def __call__(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        """Make a batch of the items of `VideoCaptionDataset`."""
        tokens = self.processor(text=[item["caption"] for item in items], return_tensors="pt")
        return {
            "input_ids": tokens["input_ids"],
            "attention_mask": tokens["attention_mask"],
            "pixel_values": torch.stack([item["pixel_values"] for item in items]),
            "video_ids": [item["video_id"] for item in items],
        }
