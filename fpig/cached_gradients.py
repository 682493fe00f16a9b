"""
The gradient of a joint batch in the memory of a chunk of it (GradCache, Gao et al., arXiv 2101.06983).

The loss needs the embeddings of all videos at once, but not what the towers computed on the way to them. So
every chunk is embedded without a graph, and the joint loss is differentiated down to the embeddings. Then
every chunk is embedded again, now with a graph, and handed the gradients of its embeddings. The price is one
more forward pass. Shapes: B videos with one caption each, D joint space.
"""

from typing import NamedTuple

import torch
from torch.utils.checkpoint import get_device_states, set_device_states
from transformers.utils import ModelOutput


class JointEmbeds(NamedTuple):
    """
    What the loss sees of a batch, or of a chunk of it.

    Attributes:
        text_embeds: unit vectors [B, D] of the captions.
        video_embeds: unit vectors [B, D].
        pseudo_query_embeds: unit vectors [B, D]; `None` for the baselines.
        logit_scale: τ, a scalar.
    """

    text_embeds: torch.Tensor
    video_embeds: torch.Tensor
    pseudo_query_embeds: torch.Tensor | None
    logit_scale: torch.Tensor


def read_embeds(outputs: ModelOutput) -> JointEmbeds:
    """Those of what `FPigModel` returns."""
    return JointEmbeds(*(outputs.get(name) for name in JointEmbeds._fields))


class RandomState:
    """What the generators of the CPU and of a tensor's device are about to draw."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.device_type = tensor.device.type
        self.cpu_state = torch.get_rng_state()
        self.devices, self.device_states = get_device_states(tensor)

    def restore(self) -> None:
        """They will draw the same again."""
        torch.set_rng_state(self.cpu_state)
        set_device_states(self.devices, self.device_states, device_type=self.device_type)


class CachedChunk:
    """
    A part of a batch that was embedded without a graph and can be embedded again as it was.

    Args:
        model: an `FPigModel`, also inside DDP.
        inputs: its arguments, tensors [B, ...].

    Attributes:
        embeds: the embeddings, leaves that gather the gradients of a loss.
    """

    def __init__(self, model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> None:
        self.model = model
        self.inputs = inputs
        self.random_state = RandomState(inputs["pixel_values"])
        with torch.no_grad():
            embeds = read_embeds(model(**inputs, return_loss=False))
        self.embeds = JointEmbeds(
            *(None if values is None else values.detach().requires_grad_() for values in embeds)
        )

    def embed_again(self) -> torch.Tensor:
        """
        The same embeddings with a graph, each times the gradient that its leaf has gathered, summed: a scalar
        whose gradient is this chunk's part of the loss's gradient.
        """
        self.random_state.restore()  # for the same dropout; after the last chunk all is as if drawn once
        embeds = read_embeds(self.model(**self.inputs, return_loss=False))
        pairs = [
            (values, leaf.grad) for values, leaf in zip(embeds, self.embeds, strict=True) if leaf is not None
        ]
        return sum((values.float() * gradient).sum() for values, gradient in pairs if gradient is not None)


def embed_chunks(
    model: torch.nn.Module, inputs: dict[str, torch.Tensor], chunk_size: int
) -> tuple[list[CachedChunk], JointEmbeds]:
    """
    Embeds a batch chunk by chunk without a graph.

    Args:
        model: an `FPigModel`, also inside DDP.
        inputs: its arguments, tensors [B, ...].
        chunk_size: videos of a chunk, from 1; the last chunk may have fewer.

    Returns:
        The chunks, and the embeddings of the batch, whose gradients go to the chunks' leaves.
    """
    parts = zip(*(tensor.split(chunk_size) for tensor in inputs.values()), strict=True)
    chunks = [CachedChunk(model, dict(zip(inputs, part, strict=True))) for part in parts]
    *columns, logit_scales = zip(*(chunk.embeds for chunk in chunks), strict=True)
    joined = (None if column[0] is None else torch.cat(column) for column in columns)
    # The scale is the batch's, not a chunk's. Its gradient goes to the last chunk, which DDP synchronizes.
    return chunks, JointEmbeds(*joined, logit_scales[-1])


__all__ = ["CachedChunk", "JointEmbeds", "embed_chunks", "read_embeds"]
