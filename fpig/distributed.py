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


def gather_with_gradient(*tensors: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
    """
    Joins equal batches [B, ...] of all processes, in order of rank, to [processes · B, ...], with gradients.

    Without several processes it returns `tensors`.

    Args:
        tensors: what is known of a batch; the first, whose B is that of all, is not `None`.

    Raises:
        ValueError: the batches are not equally large; in every process, so that none waits for another.
    """
    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
        return tensors
    check_batch_sizes(tensors[0])
    return tuple(None if tensor is None else GatherWithGradient.apply(tensor) for tensor in tensors)


def check_batch_sizes(tensor: torch.Tensor) -> None:
    """
    Raises:
        ValueError: `tensor` [B, ...] has another B in another process, which hangs or mixes up a gather.
    """
    sizes = torch.empty(dist.get_world_size(), dtype=torch.long, device=tensor.device)
    dist.all_gather(list(sizes.split(1)), torch.tensor([len(tensor)], device=tensor.device))
    if (sizes != len(tensor)).any():
        raise ValueError(
            f"`tensor` has {', '.join(map(str, sizes.tolist()))} rows in processes 0 to {len(sizes) - 1}; "
            "the joint loss needs equal batches: drop incomplete ones (`dataloader_drop_last`)"
        )


__all__ = ["gather_with_gradient"]
