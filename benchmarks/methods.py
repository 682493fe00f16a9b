"""
Is the pseudo-query worth it? F-Pig against two-tower baselines on the generated benchmark `shapes`.

    python benchmarks/hybrid_vs_two_tower.py --seeds 0 1 2

All methods see every video equally often, in the same number of steps. One run a seed trains the towers;
from them F-Pig goes on as `configs/shapes.yaml` says, and the two-tower baseline (`class_token`) goes on
for as many epochs as F-Pig's generator and joint stages have together. Because the baseline's second start
of the learning rate may not be its best, a third run trains it in one go over all epochs. F-Pig's own class
token is measured too: the same model, without the pseudo-query. Finished runs are kept and not repeated, in
a folder that changes with `configs/shapes.yaml`.
"""

import argparse
import hashlib
import json
import statistics
import subprocess
import sys
from pathlib import Path

import yaml

from fpig.settings import get_stages_dir

ROOT = Path(__file__).parents[1]
CONFIG_PATH = ROOT / "configs" / "shapes.yaml"
CONFIG = yaml.safe_load(CONFIG_PATH.read_text())
METRICS = ("t2v_R@1", "t2v_R@5", "t2v_R@10", "v2t_R@1")
METHODS = {
    "F-Pig": ("f_pig", "metrics"),
    "F-Pig's class token": ("f_pig", "class_token_metrics"),
    "two-tower, same stages": ("two_tower", "metrics"),
    "two-tower, in one go": ("two_tower_in_one_go", "metrics"),
}


def list_runs(folder: Path) -> dict[str, list[str]]:
    """The settings of each run of a seed, beside those of the config; a later one may need an earlier one."""
    epochs_after_towers = CONFIG["generator_epochs"] + CONFIG["num_train_epochs"]
    return {
        "f_pig": [],
        "two_tower": [
            f"--model_name_or_path={get_stages_dir(folder / 'f_pig') / 'towers' / 'final'}",
            f"--num_train_epochs={epochs_after_towers}",
        ],
        "two_tower_in_one_go": [
            "--video_pooling=class_token",
            f"--tower_epochs={CONFIG['tower_epochs'] + epochs_after_towers}",
            "--num_train_epochs=0",
        ],
    }


def measure_run(run_dir: Path, settings: list[str], seed: int, log: Path) -> dict:
    """Trains unless it is done, evaluates with the class token, and returns the content of `results.json`."""
    results = run_dir / "evaluation" / "results.json"
    commands = []
    if not (run_dir / "results.json").is_file():
        resume = ["--resume_from_checkpoint"] if get_stages_dir(run_dir).exists() else []
        commands.append(["train.py", *settings, f"--output_dir={run_dir}", f"--seed={seed}", *resume])
    if not results.is_file():
        evaluation = ["--dataset=shapes", f"--output_dir={results.parent}", "--class_token", "--no_figure"]
        commands.append(["eval.py", f"--model={run_dir}", *evaluation])
    for command in commands:
        print(f"$ {' '.join(command)}", flush=True)
        with log.open("a") as output:
            subprocess.run([sys.executable, *command], cwd=ROOT, stdout=output, stderr=output, check=True)
    return json.loads(results.read_text())


def format_table(measured: dict[str, list[dict]]) -> str:
    """
    Percent per method: mean ± standard deviation over the seeds, and each seed's text → video R@1.

    Below, what F-Pig has more than each other method, seed by seed.
    """
    scores = {
        name: {metric: [results[key][metric] for results in measured[run]] for metric in METRICS}
        for name, (run, key) in METHODS.items()
    }
    hybrid = scores["F-Pig"]
    for name in list(METHODS)[1:]:
        scores[f"F-Pig minus {name}"] = {
            metric: [ours - theirs for ours, theirs in zip(hybrid[metric], values, strict=True)]
            for metric, values in scores[name].items()
        }
    lines = [f"| {' | '.join(('', *METRICS, 't2v_R@1 by seed'))} |", "|---" * (len(METRICS) + 2) + "|"]
    for name, metrics in scores.items():
        form = "{:+.1f}" if " minus " in name else "{:.1f}"
        cells = []
        for values in metrics.values():
            spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
            cells.append(form.format(statistics.mean(values)) + spread)
        cells.append(", ".join(form.format(value) for value in metrics["t2v_R@1"]))
        lines.append(f"| {' | '.join((name, *cells))} |")
    return "\n".join(lines)


def main() -> None:
    """Runs what is missing and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="(default: 0 1 2)")
    parser.add_argument("--output_dir", type=Path, default=ROOT / "outputs" / "hybrid_vs_two_tower")
    arguments = parser.parse_args()
    config_hash = hashlib.sha256(CONFIG_PATH.read_bytes()).hexdigest()[:12]
    measured: dict[str, list[dict]] = {}
    for seed in arguments.seeds:
        folder = arguments.output_dir.resolve() / config_hash / f"seed_{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        for run, settings in list_runs(folder).items():
            results = measure_run(folder / run, settings, seed, folder / f"{run}.log")
            measured.setdefault(run, []).append(results)
    print(format_table(measured))


if __name__ == "__main__":
    main()
