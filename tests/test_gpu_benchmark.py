"""benchmarks/gpu.py without a GPU: it refuses, or tries its code on a tiny model."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def gpu(monkeypatch):
    """The script as a module."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("gpu")


def run_script(*arguments):
    """Where there is a GPU it is hidden."""
    command = [sys.executable, ROOT / "benchmarks" / "gpu.py", *arguments]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)


def test_refuses_without_a_gpu():
    done = run_script()
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: `--device` is 'cuda' but torch sees no CUDA GPU here; run it where")


def test_refuses_no_batch():
    done = run_script("--device", "cpu", "--max_batch", "0")
    assert done.returncode == 2
    assert "`--max_batch` is 0; it must be at least 1" in done.stderr


def test_whole_run_on_the_cpu():
    """Every variant of both jobs, `torch.compile` too."""
    done = run_script("--device", "cpu", "--backbones", "b32", "--max_batch", "1")
    assert done.returncode == 0, done.stderr
    title, _, header, _, *lines = done.stdout.splitlines()
    assert "tiny model: these figures mean nothing" in title
    rows = [line.strip("| ").split(" | ") for line in lines]
    variants = [
        (model, attention, compiled)
        for model, attention in (("F-Pig", "sdpa"), ("F-Pig", "eager"), ("CLIP", "sdpa"))
        for compiled in ("off", "on")
        if (attention, compiled) != ("eager", "on")
    ]
    assert [tuple(row[:6]) for row in rows] == [
        ("B/32", job, *variant, "1") for job in ("encoding", "training") for variant in variants
    ]
    for row in rows:
        assert len(row) == header.count("|") - 1
        assert float(row[6].replace(",", "")) > 0


@pytest.mark.parametrize("largest", [0, 1, 2, 3, 16, 21, 40, 64])
def test_largest_batch_that_fits_is_found(gpu, monkeypatch, largest):
    """On a card that holds so many videos: a CPU never says that memory ran out."""
    tried = []

    def measure(variant, batch_size, min_seconds):
        tried.append(batch_size)
        return gpu.Measurement(batch_size, 1.0, 1) if batch_size <= largest else None

    monkeypatch.setattr(gpu, "measure", measure)
    sizes = [measurement.batch_size for measurement in gpu.measure_batches(None, 64, 1.0)]
    doubled = [2**power for power in range(7) if 2**power <= largest]
    assert sizes[: len(doubled)] == doubled
    assert largest == 0 or largest - max(sizes) <= max(sizes) // 16
    assert all(size <= 64 for size in tried)


def test_share_is_of_the_measured_rate(gpu):
    variant = gpu.Variant("F-Pig", "sdpa", False, "b16", "training", "cuda")
    measurement = gpu.Measurement(8, 50.0, 3 * 2**30)
    row = gpu.format_row(variant, measurement, num_operations=10**12, matrix_rate=2e14)
    assert row == "| B/16 | training | F-Pig | sdpa | off | 8 | 50.0 | 25.0% | 3.00 GiB |"


def test_operations_are_those_of_the_products(gpu):
    """One video through CLIP, counted by hand; backward takes twice as many, less what pixels don't need."""
    variant = gpu.Variant("CLIP", "sdpa", False, "b32", "encoding", "cpu")
    width, hidden, layers, frames, patches = 64, 128, 2, 12, 4
    tokens = frames * (1 + patches)
    products = tokens * layers * (4 * width**2 + 2 * width * hidden)
    products += 2 * layers * frames * (1 + patches) ** 2 * width  # scores, and values by weights
    products += frames * patches * width * 3 * 32**2
    assert gpu.count_operations(variant) == 2 * products
    training = gpu.Variant("CLIP", "sdpa", False, "b32", "training", "cpu")
    pixels = frames * patches * width * 3 * 32**2
    assert gpu.count_operations(training) == 2 * (3 * products - pixels)
