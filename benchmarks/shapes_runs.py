"""
Runs of `train.py` and `eval.py` on the generated benchmark `shapes`, kept in a folder and never repeated.

All runs of a seed go on from the same towers, a CLIP that the first of them trains on single frames, and see
every video equally often after that: a method without a generator stage trains its epochs too.
"""

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
CONFIG_PATH = ROOT / "configs" / "shapes.yaml"
CONFIG = yaml.safe_load(CONFIG_PATH.read_text())
METRICS = ("t2v_R@1", "t2v_R@5", "t2v_R@10", "v2t_R@1")
EPOCHS_AFTER_TOWERS = CONFIG["generator_epochs"] + CONFIG["num_train_epochs"]
WITHOUT_GENERATOR_STAGE = ("--generator_epochs=0", f"--num_train_epochs={EPOCHS_AFTER_TOWERS}")


@dataclass(frozen=True)
class Run:
    """Settings beside those of `configs/shapes.yaml`, and options of `eval.py`; `name` is its folder."""

    name: str
    settings: tuple[str, ...] = ()
    evaluation: tuple[str, ...] = ()


F_PIG = Run("f_pig", evaluation=("--class_token", "--interaction=query", "--rerank=10"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Seeds, where the runs are kept, and how many go on at once."""
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="(default: 0 1 2)")
    parser.add_argument("--output_dir", type=Path, default=ROOT / "outputs" / "benchmarks")
    parser.add_argument(
        "--num_jobs", type=int, default=1, help="runs at once, on one core each (default: %(default)s)"
    )


def measure_runs(runs: list[Run], arguments: argparse.Namespace) -> dict[str, list[dict]]:
    """
    The content of `results.json` of every run, by name, one for each seed.

    What is there is not done again; a run that was stopped goes on. The folder changes with the config.
    """
    config_hash = hashlib.sha256(CONFIG_PATH.read_bytes()).hexdigest()[:12]
    folders = [arguments.output_dir.resolve() / config_hash / f"seed_{seed}" for seed in arguments.seeds]
    threads = {} if arguments.num_jobs == 1 else {"OMP_NUM_THREADS": "1"}
    with ThreadPoolExecutor(arguments.num_jobs) as executor:
        jobs = dict(zip(folders, arguments.seeds, strict=True))
        # The towers first: every run of the seed begins with a copy of them.
        list(executor.map(lambda folder: measure_run(F_PIG, folder, jobs[folder], threads), folders))
        measured = {
            run.name: [executor.submit(measure_run, run, *job, threads) for job in jobs.items()]
            for run in runs
        }
        return {name: [future.result() for future in futures] for name, futures in measured.items()}


def measure_run(run: Run, folder: Path, seed: int, threads: dict[str, str]) -> dict:
    """Trains unless it is done, evaluates the test split, and returns the content of `results.json`."""
    from fpig.settings import get_stages_dir  # only now: it takes seconds, and `--help` needs none of it
    from fpig.shapes_drawing import NUM_FRAMES

    run_dir = folder / run.name
    results = run_dir / "evaluation" / "results.json"
    run_dir.parent.mkdir(parents=True, exist_ok=True)
    check_settings_file(run, run_dir.with_name(f"{run.name}.json"))
    if not (run_dir / "results.json").is_file():
        copy_towers(get_stages_dir(folder / F_PIG.name), get_stages_dir(run_dir))
        resume = ["--resume_from_checkpoint"] if get_stages_dir(run_dir).exists() else []
        # All frames of a clip are kept, so that a run draws what it would draw without, only sooner.
        cache = [f"--frame_candidates={NUM_FRAMES}", f"--frame_cache={folder.parent / 'frames'}"]
        options = [*cache, f"--output_dir={run_dir}", f"--seed={seed}", *resume]
        execute(["train.py", *run.settings, *options], threads)
    if not results.is_file():
        options = [*run.evaluation, "--dataset=shapes", f"--output_dir={results.parent}", "--no_figure"]
        execute(["eval.py", f"--model={run_dir}", *options], threads)
    return json.loads(results.read_text())


def check_settings_file(run: Run, path: Path) -> None:
    """
    Writes a run's settings beside it, and refuses to take a run that has others for it.

    Raises:
        ValueError: the run that is there has other settings.
    """
    settings = [*run.settings, "|", *run.evaluation]
    if path.exists() and json.loads(path.read_text()) != settings:
        raise ValueError(
            f"`{path}` has other settings than {run}; remove that run, or pass another --output_dir"
        )
    path.write_text(json.dumps(settings))


def copy_towers(stages_dir: Path, target: Path) -> None:
    """Gives a run the towers of another as its own finished first stage, unless it has them."""
    towers = stages_dir / "towers"
    if stages_dir == target or (target / "towers").exists():
        return
    partial = target / "towers.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    shutil.copytree(towers / "final", partial / "final")
    for record in towers.glob("*.json"):
        shutil.copy(record, partial)
    partial.rename(target / "towers")


def execute(command: list[str], threads: dict[str, str]) -> None:
    """Runs one of the scripts; what it prints goes to a log beside the run."""
    output_dir = next(part for part in command if part.startswith("--output_dir=")).partition("=")[2]
    log = Path(output_dir).with_suffix(".log")
    log.parent.mkdir(parents=True, exist_ok=True)
    print(f"$ {' '.join(command)}", flush=True)
    with log.open("a") as output:
        subprocess.run(
            [sys.executable, *command],
            cwd=ROOT,
            env=os.environ | threads,
            stdout=output,
            stderr=output,
            check=True,
        )


def format_spread(values: list[float], form: str = "{:.1f}") -> str:
    """Mean ± standard deviation."""
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return form.format(statistics.mean(values)) + spread


def format_rows(rows: list[tuple[str, ...]]) -> str:
    """A Markdown table; the first row is its head."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])
