"""The items of training: some frames of a video and one of its captions."""

from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import ProcessorMixin

from fpig.datasets import CaptionedVideo
from fpig.frame_cache import FrameCache
from fpig.sampler import seed_generator


class VideoCaptionDataset(Dataset):
    """Training items, one per video: some of its frames and one of its captions.

    `dataset[index, epoch]` draws both from (`seed`, `epoch`, `index`) and nothing else, so worker
    processes, the number of processes and a restart do not change what a run sees. `EpochSampler` yields
    these pairs.

    Args:
        records: The videos.
        processor: Its video side decodes and resizes.
        num_frames: Frames per video.
        mode: How they are chosen: "train" with random start and end, "test" evenly over the whole clip.
        seed: Seed of the draws.
        num_candidates: Choose out of so many frames that are spread evenly over the clip; out of all by
            default.
        frame_cache: Keeps these candidates, for the same items in less time.

    Raises:
        ValueError: no records, one without captions, or another mode.
    """

    def __init__(
        self,
        records: list[CaptionedVideo],
        processor: ProcessorMixin,
        num_frames: int,
        mode: str = "train",
        seed: int = 0,
        num_candidates: int | None = None,
        frame_cache: FrameCache | None = None,
    ) -> None:
        if not records:
            raise ValueError("`records` is empty but must hold at least one video; load another split")
        for record in records:
            if not record.captions:
                raise ValueError(
                    f"`records` has the video '{record.video_id}' without a caption but training needs one; "
                    "load annotations with captions"
                )
        if mode not in ("train", "test"):
            raise ValueError(f"`mode` is '{mode}' but must be 'train' or 'test'")
        self.records = records
        self.processor = processor
        self.num_frames = num_frames
        self.mode = mode
        self.seed = seed
        self.num_candidates = num_candidates
        self.frame_cache = frame_cache

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index_and_epoch: tuple[int, int]) -> dict[str, Any]:
        """
        Return `pixel_values` [T, 3, S, S], `caption` and `video_id`.

        Raises:
            ValueError: the video can't be read; it names the video and the reason.
        """
        index, epoch = index_and_epoch
        record = self.records[index]
        generator = seed_generator(self.seed, epoch, index)
        caption_index = int(torch.randint(len(record.captions), (), generator=generator))
        try:
            pixel_values = self._read_pixel_values(index, generator)
        except (OSError, ValueError) as error:
            # One plain message, because that is all of an error that comes out of a worker process.
            raise ValueError(f"`{record.video_id}` of the dataset can't be used: {error}") from error
        return {
            "pixel_values": pixel_values,
            "caption": record.captions[caption_index],
            "video_id": record.video_id,
        }

    def _read_pixel_values(self, index: int, generator: torch.Generator) -> torch.Tensor:
        """[T, 3, S, S], the same with and without a cache."""
        video_processor = self.processor.video_processor
        if self.frame_cache is not None:

            def choose_indices(num_available: int) -> list[int]:
                return video_processor.choose_indices(
                    num_available, self.num_frames, self.mode, generator.clone_state()
                )

            frames = self.frame_cache.read(index, choose_indices)
            if frames is not None:
                return video_processor([frames], num_frames=self.num_frames)["pixel_values"][0]
        return video_processor(
            [self.records[index].video],
            num_frames=self.num_frames,
            mode=self.mode,
            generator=generator,
            num_candidates=self.num_candidates,
        )["pixel_values"][0]


__all__ = ["VideoCaptionDataset"]
