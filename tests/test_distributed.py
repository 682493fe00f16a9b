"""The joint loss of several real processes has the gradient of one process with the joint batch."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from gather_process import Towers, compute_gradients, make_batch

from fpig.distributed import gather_with_gradient

SCRIPT = Path(__file__).with_name("gather_process.py")


@pytest.mark.parametrize("num_processes", [2, 3])
def test_gradients_equal_one_process_with_the_joint_batch(num_processes, tmp_path):
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={num_processes}"]
    subprocess.run([sys.executable, *launcher, SCRIPT, tmp_path], check=True, timeout=120)
    expected = compute_gradients(Towers(), *make_batch(num_processes))
    for rank in range(num_processes):
        torch.testing.assert_close(torch.load(tmp_path / f"{rank}.pt"), expected, rtol=1e-5, atol=1e-6)


def test_one_process_gathers_nothing():
    tensor = torch.randn(2, 3, requires_grad=True)
    assert gather_with_gradient(tensor) is tensor
