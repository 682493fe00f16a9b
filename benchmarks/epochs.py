"""
Whether F-Pig reaches averaged frames when both are trained longer, on the generated benchmark `shapes`.

    python benchmarks/epochs.py --seeds 0 1 2 --epochs 4 12

Both start from the same towers and see every video equally often (see `shapes_runs.py`); one epoch of
F-Pig's is the generator's. Each number of epochs is a run of its own, with a learning rate that ends at zero.
"""

import argparse

from methods import RUNS
from shapes_runs import (
    CONFIG,
    EPOCHS_AFTER_TOWERS,
    WITHOUT_GENERATOR_STAGE,
    Run,
    add_arguments,
    format_rows,
    format_spread,
    measure_runs,
)

METRIC = "t2v_R@1"
F_PIG, CLIP4CLIP, _ = RUNS
METHODS = {"CLIP4Clip (mean of frames)": CLIP4CLIP, "F-Pig": F_PIG}


def lengthen(run: Run, num_epochs: int) -> Run:
    """The same with this many epochs after the towers: all but the generator's own are joint training."""
    if num_epochs == EPOCHS_AFTER_TOWERS:
        return run
    has_generator_stage = WITHOUT_GENERATOR_STAGE[0] not in run.settings
    num_joint = num_epochs - (CONFIG["generator_epochs"] if has_generator_stage else 0)
    return Run(f"{run.name}_{num_epochs}_epochs", (*run.settings, f"--num_train_epochs={num_joint}"))


def format_table(measured: dict[str, list[dict]], epochs: list[int]) -> str:
    """Percent, mean ± standard deviation over the seeds, a column for each number of epochs."""
    rows = [(METRIC, *(f"{number} epochs" for number in epochs))]
    for method, run in METHODS.items():
        cells = []
        for number in epochs:
            scores = [results["metrics"][METRIC] for results in measured[lengthen(run, number).name]]
            cells.append(f"{format_spread(scores)} ({', '.join(f'{score:.1f}' for score in scores)})")
        rows.append((method, *cells))
    return format_rows(rows)


def main() -> None:
    """Runs what is missing and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument(
        "--epochs", type=int, nargs="+", default=[EPOCHS_AFTER_TOWERS, 12], help="(default: 4 12)"
    )
    arguments = parser.parse_args()
    runs = [lengthen(run, number) for number in arguments.epochs for run in METHODS.values()]
    print(f"\n{format_table(measure_runs(runs, arguments), arguments.epochs)}")


if __name__ == "__main__":
    main()
