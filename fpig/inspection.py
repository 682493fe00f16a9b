"""
Shows why a video was found: its frames with the patches that the token selector chose, as the paper's
qualitative figure does, and the captions nearest to its pseudo-query.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch.nn.functional import pad
from transformers import PreTrainedModel, ProcessorMixin

from fpig.index import IndexedVideo

# Frames are drawn with this many pixels a side or more; small ones are enlarged by a whole number.
DRAWN_SIZE = 224
# What is left of the light of a patch that was not selected.
DIMMING = 0.35
EDGE = 2
EDGE_COLOR = (255, 214, 0)


@dataclass(frozen=True)
class InspectedFrame:
    """
    A frame as the model saw it.

    Attributes:
        picture: RGB [H, W, 3] uint8; selected patches in full light with a yellow edge, the others dark. A
            model without a token selector leaves it as it is.
        seconds: when the video shows it.
        score: cosine of its frame token and the query.
        num_selected: how many of the K selected patches it has.
    """

    picture: torch.Tensor
    seconds: float
    score: float
    num_selected: int


@lru_cache(maxsize=64)  # visitors look at the same few videos again and again
def read_pictures(processor: ProcessorMixin, path: Path) -> torch.Tensor:
    """
    The T frames of a video as the model saw them: RGB [T, 3, H, W] uint8, enlarged to `DRAWN_SIZE` or more.

    Raises:
        VideoReadError: the file can't be read any more.
    """
    pixel_values = processor(videos=[str(path)], return_tensors="pt")["pixel_values"][0]
    pictures = processor.video_processor.make_pictures(pixel_values)
    return enlarge(pictures, -(-DRAWN_SIZE // pictures.shape[-1]))


def inspect_frames(
    model: PreTrainedModel, processor: ProcessorMixin, video: IndexedVideo, query_embed: torch.Tensor
) -> list[InspectedFrame]:
    """
    The T frames of a video as the model saw them, and what it made of them.

    Args:
        model: the one that made the index.
        processor: the model's.
        video: a row of the index.
        query_embed: unit vector of the sentence [D].

    Raises:
        VideoReadError: the file can't be read any more.
    """
    pictures = read_pictures(processor, video.path)
    counts = [0] * len(pictures)
    if video.selected_token_indices is not None:
        is_selected = locate_patches(model, video.selected_token_indices, len(pictures))
        counts = is_selected.flatten(1).sum(dim=1).tolist()
        vision = model.config.vision_config
        patch_size = pictures.shape[-1] // vision.image_size * vision.patch_size
        pictures = draw_selection(pictures, is_selected, patch_size)
    scores = (video.frame_embeds * query_embed).sum(dim=-1).tolist()
    columns = (pictures.permute(0, 2, 3, 1), video.frame_seconds, scores, counts)
    return [InspectedFrame(*values) for values in zip(*columns, strict=True)]


def locate_patches(
    model: PreTrainedModel, selected_token_indices: Sequence[int], num_frames: int
) -> torch.Tensor:
    """
    Where the selected tokens are in the frames: [T, G, G] bool, with G × G patches per frame.

    Args:
        model: an `FPigModel`.
        selected_token_indices: positions among all tokens, which are the class token and the proxies, then
            for every frame its frame token and its patches, row by row.
        num_frames: T.
    """
    vision = model.config.vision_config
    grid = vision.image_size // vision.patch_size
    is_selected = torch.zeros(num_frames, 1 + grid * grid, dtype=torch.bool)
    is_selected.view(-1)[torch.tensor(selected_token_indices) - model.config.num_global_tokens] = True
    return is_selected[:, 1:].unflatten(1, (grid, grid))


def draw_selection(pictures: torch.Tensor, is_selected: torch.Tensor, patch_size: int) -> torch.Tensor:
    """Pictures [T, 3, H, W] and chosen patches [T, G, G] → the chosen ones with an edge, the others dark."""
    grid = is_selected.shape[-1]
    # Pixels beyond the last whole patch belong to none: the tower does not see them.
    rest = pictures.shape[-1] - grid * patch_size
    inner = torch.zeros(patch_size, patch_size, dtype=torch.bool)
    inner[EDGE:-EDGE, EDGE:-EDGE] = True
    inner = pad(inner.repeat(grid, grid), (0, rest, 0, rest))
    selected = pad(enlarge(is_selected, patch_size), (0, rest, 0, rest))[:, None]
    lit = torch.where(selected, pictures, (pictures * DIMMING).to(torch.uint8))
    color = torch.tensor(EDGE_COLOR, dtype=torch.uint8).view(3, 1, 1)
    return torch.where(selected & ~inner, color, lit)


def enlarge(pictures: torch.Tensor, scale: int) -> torch.Tensor:
    """Every pixel [..., H, W] as a square of `scale` × `scale` pixels."""
    return pictures.repeat_interleave(scale, dim=-2).repeat_interleave(scale, dim=-1)


__all__ = ["InspectedFrame", "inspect_frames", "read_pictures"]
