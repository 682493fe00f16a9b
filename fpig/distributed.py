"""What crosses processes in training."""

from typing import Any

import torch
import torch.distributed as dist


class GatherWithGradient(torch.autograd.Function):
    """Joins the processes' tensors; the gradient of a part goes back to the process that sent it."""

    @staticmethod
    def forward(context: Any, tensor: torch.Tensor) -> torch.Tensor:
        parts = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> torch.Tensor:
        # Every process differentiates its own copy of the joint loss. Their sum, which DDP then averages over
        # the processes, is the gradient of one process with the joint batch.
        gradient = gradient.clone(memory_format=torch.contiguous_format)  # autograd keeps the one it gave
        dist.all_reduce(gradient)
        return gradient.chunk(dist.get_world_size())[dist.get_rank()]


def gather_with_gradient(tensor: torch.Tensor) -> torch.Tensor:
    """
    Joins equal batches [B, ...] of all processes, in order of rank, to [processes · B, ...], with gradients.

    Without several processes it returns `tensor`. Batches must be equally large (`dataloader_drop_last`).
    """
    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
        return tensor
    return GatherWithGradient.apply(tensor)
