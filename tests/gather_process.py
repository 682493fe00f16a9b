"""One of the processes that differentiate the joint loss; `test_distributed.py` starts them by torchrun."""

import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from fpig.distributed import gather_with_gradient
from modeling_fpig.loss_fpig import contrastive_loss, generation_loss

LOCAL_BATCH_SIZE, WIDTH = 3, 5


class Towers(nn.Module):
    """Three linear towers and a temperature: enough for the loss to see everything that crosses processes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.text, self.video, self.pseudo_query = (nn.Linear(4, WIDTH) for _ in range(3))
        self.logit_scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, captions: torch.Tensor, videos: torch.Tensor) -> tuple[torch.Tensor, ...]:
        embeds = (self.text(captions), self.video(videos), self.pseudo_query(videos))
        return tuple(nn.functional.normalize(embed, dim=-1) for embed in embeds) + (self.logit_scale,)


def make_batch(num_processes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Captions and videos of the joint batch."""
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.randn(num_processes * LOCAL_BATCH_SIZE, 4, generator=generator) for _ in range(2))


def compute_gradients(model: nn.Module, captions: torch.Tensor, videos: torch.Tensor) -> torch.Tensor:
    """All gradients of the joint loss, flat."""
    text, video, pseudo_query, logit_scale = model(captions, videos)
    text, video, pseudo_query = gather_with_gradient(text, video, pseudo_query)
    (contrastive_loss(text, video, logit_scale) + generation_loss(pseudo_query, text)).backward()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


def count_gathers() -> list[None]:
    """A list that grows with every gather from now on."""
    calls: list[None] = []
    gather = dist.all_gather

    def count(*arguments: object) -> None:
        calls.append(None)
        gather(*arguments)

    dist.all_gather = count
    return calls


def main() -> None:
    """
    Writes this process's gradients, after DDP has averaged them, and how often it gathered, to the folder
    named by the first argument. The second leaves the last process so many rows less; then the error is
    written.
    """
    dist.init_process_group("gloo", timeout=timedelta(seconds=60))  # who waits in vain fails the test
    rank, num_processes = dist.get_rank(), dist.get_world_size()
    num_missing = int(sys.argv[2]) if rank == num_processes - 1 else 0
    captions, videos = (
        part.chunk(num_processes)[rank][: LOCAL_BATCH_SIZE - num_missing]
        for part in make_batch(num_processes)
    )
    calls = count_gathers()
    try:
        result = compute_gradients(DistributedDataParallel(Towers()), captions, videos)
    except ValueError as error:
        result = str(error)
    torch.save((result, len(calls)), Path(sys.argv[1]) / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
