"""
How much α, the weight of the generation loss, and k, the number of selected patches, matter on `shapes`.

    python benchmarks/sensitivity.py --seeds 0 1 2 --figure docs/sensitivity.png

The counterpart of the supplement's Figure S1. Each point is trained as long as every other (see
`shapes_runs.py`); bars are standard deviations over the seeds. Runs that are there are not repeated.
"""

import argparse
from pathlib import Path

from shapes_runs import CONFIG, F_PIG, Run, add_arguments, format_rows, format_spread, measure_runs

ALPHA, NUM_SELECTED = CONFIG["generation_loss_weight"], CONFIG["num_selected_tokens"]
ALPHAS = (0, 0.5, 1, 2, 4)
NUMS_SELECTED = (0, 2, 4, 8, 16)
METRIC = "t2v_R@1"


def name_run(parameter: str, value: float) -> Run:
    """The run of a point; the default's is F-Pig's own, and the ends have the names of the ablations."""
    if (parameter, value) in (("alpha", ALPHA), ("k", NUM_SELECTED)):
        return F_PIG
    if (parameter, value) == ("k", 0):
        return Run("no_selection", ("--num_selected_tokens=0",))
    setting = "generation_loss_weight" if parameter == "alpha" else "num_selected_tokens"
    return Run(f"{parameter}_{value:g}", (f"--{setting}={value:g}",))


CURVES = {
    "alpha": {value: name_run("alpha", value) for value in ALPHAS},
    "k": {value: name_run("k", value) for value in NUMS_SELECTED},
}
LABELS = {"alpha": "weight α of the generation loss", "k": "selected patches k"}


def collect_points(measured: dict[str, list[dict]], parameter: str) -> dict[float, list[float]]:
    """Value of the parameter → R@1 of each seed."""
    return {
        value: [results["metrics"][METRIC] for results in measured[run.name]]
        for value, run in CURVES[parameter].items()
    }


def draw_curves(measured: dict[str, list[dict]], path: Path) -> None:
    """Both curves beside each other, on one scale, with every seed's point."""
    import matplotlib.pyplot as plt
    import numpy as np

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True, layout="constrained")
    for axis, parameter in zip(axes, CURVES, strict=True):
        points = collect_points(measured, parameter)
        scores = np.array(list(points.values()))  # [values, seeds]
        places = np.arange(len(points))
        spread = scores.std(axis=1, ddof=1) if scores.shape[1] > 1 else None
        axis.errorbar(places, scores.mean(axis=1), yerr=spread, marker="o", capsize=4, color="#0969da")
        for seed_scores in scores.T:
            axis.plot(places, seed_scores, ".", color="#8c959f", zorder=0)
        axis.set_xticks(places, [f"{value:g}" for value in points])
        axis.set_xlabel(LABELS[parameter])
        axis.grid(axis="y", alpha=0.3)
    axes[0].set_ylabel("text → video R@1, percent")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Runs what is missing, prints the points and draws them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--figure", type=Path, default=Path("outputs", "sensitivity.png"))
    arguments = parser.parse_args()
    runs = {run.name: run for curve in CURVES.values() for run in curve.values()}
    measured = measure_runs(list(runs.values()), arguments)
    for parameter in CURVES:
        points = collect_points(measured, parameter)
        rows = [(parameter, METRIC, "by seed")]
        for value, scores in points.items():
            rows.append((f"{value:g}", format_spread(scores), ", ".join(f"{score:.1f}" for score in scores)))
        print(f"\n{format_rows(rows)}")
    draw_curves(measured, arguments.figure)
    print(f"\nDrawn to {arguments.figure}")


if __name__ == "__main__":
    main()
