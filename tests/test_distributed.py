"""The joint loss of several real processes has the gradient of one process with the joint batch."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from gather_process import Towers, compute_gradients, make_batch

from fpig.distributed import gather_with_gradient

SCRIPT = Path(__file__).with_name("gather_process.py")
LOADING_SCRIPT = Path(__file__).with_name("loading_process.py")


def run_processes(num_processes, folder, num_missing=0):
    """What each process wrote."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={num_processes}"]
    command = [sys.executable, *launcher, SCRIPT, folder, str(num_missing)]
    subprocess.run(command, check=True, timeout=120)
    return [torch.load(folder / f"{rank}.pt") for rank in range(num_processes)]


@pytest.mark.parametrize("num_processes", [2, 3])
def test_gradients_equal_one_process_with_the_joint_batch(num_processes, tmp_path):
    expected = compute_gradients(Towers(), *make_batch(num_processes))
    for gradients, num_gathers in run_processes(num_processes, tmp_path):
        assert num_gathers == 1 + 3  # the sizes of the batches once, and what is known of them
        torch.testing.assert_close(gradients, expected, rtol=1e-5, atol=1e-6)


def test_unequal_batches_are_refused_in_every_process(tmp_path):
    """Those whose batch is as large as the first one's too: else they would wait for the others."""
    for message, _ in run_processes(3, tmp_path, num_missing=1):
        assert re.match(
            r"`tensor` has 3, 3, 2 rows in processes 0 to 2; the joint loss needs equal batches: drop",
            message,
        )


def test_one_process_gathers_nothing():
    tensor = torch.randn(2, 3, requires_grad=True)
    assert gather_with_gradient(tensor, None) == (tensor, None)


def load_in_two_processes(folder, *failure):
    """What each loads of a data set of which one video of four is missing, and what they told."""
    for name in "abcd":
        (folder / f"{name}.mp4").write_bytes(b"content")
    rows = ["a.mp4,x,train", "b.mp4,x,train", "gone.mp4,x,train", "c.mp4,x,test", "d.mp4,x,test"]
    (folder / "list.csv").write_text("\n".join(["video,caption,split", *rows]))
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command = [sys.executable, *launcher, LOADING_SCRIPT, folder / "list.csv", *failure]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(
        command, check=True, timeout=120, env=environment, stderr=subprocess.PIPE, text=True
    )
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)], done.stderr


def test_first_process_decides_which_videos_are_left_out(tmp_path):
    """The other can't read some of them for a moment."""
    loaded, told = load_in_two_processes(tmp_path)
    assert (
        loaded
        == [
            [{"train": ["a.mp4", "b.mp4"], "test": ["c.mp4", "d.mp4"]}, ["c.mp4", "d.mp4"]],
        ]
        * 2
    )
    assert told.count("1 of 3 videos of") == 1


def test_errors_of_the_deciding_process_are_those_of_all(tmp_path):
    loaded, _ = load_in_two_processes(tmp_path, "a process that decoded videos was killed")
    assert loaded == ["a process that decoded videos was killed"] * 2


DIE_BEFORE_GATHERING = """
join_processes()
dist.barrier()
if rank == 1:
    os._exit(3)
gather_in_first("a share")
"""
DIE_WHILE_DECIDING = "run_in_first(lambda: os._exit(3))"
JOINED = """
import os, sys
import torch.distributed as dist
from fpig.sharing import gather_in_first, join_processes, run_in_first
rank = int(sys.argv[2])
dist.init_process_group("gloo", init_method=f"file://{sys.argv[1]}", rank=rank, world_size=2)
"""


@pytest.mark.parametrize(("dying", "program"), [(1, DIE_BEFORE_GATHERING), (0, DIE_WHILE_DECIDING)])
def test_process_does_not_wait_for_one_that_has_died(tmp_path, dying, program):
    """Without a launcher, which would end it: on several machines nothing else may."""
    command = [sys.executable, "-c", JOINED + program, str(tmp_path / "store")]
    processes = [
        subprocess.Popen([*command, str(rank)], stderr=subprocess.PIPE, text=True) for rank in range(2)
    ]
    waiting = processes[1 - dying]
    try:
        assert processes[dying].wait(timeout=60) == 3
        _, told = waiting.communicate(timeout=60)
    finally:
        waiting.kill()
        processes[dying].communicate()
    assert waiting.returncode == 1
    assert "RuntimeError" in told
