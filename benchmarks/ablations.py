"""
What each part of F-Pig is worth, on the generated benchmark `shapes`.

    python benchmarks/ablations.py --seeds 0 1 2

Every row leaves one part out and is trained as long as the whole (see `shapes_runs.py`).
"""

import argparse

from shapes_runs import (
    F_PIG,
    METRICS,
    WITHOUT_GENERATOR_STAGE,
    Run,
    add_arguments,
    format_rows,
    format_spread,
    measure_runs,
)

ABLATIONS = {
    "F-Pig": F_PIG,
    "without token selection": Run("no_selection", ("--num_selected_tokens=0",)),
    "without generator pre-training": Run("no_pretraining", WITHOUT_GENERATOR_STAGE),
    "without interaction: the pseudo-query alone": Run("no_interaction", ("--use_interaction=false",)),
    "without proxies": Run("no_proxies", ("--num_proxy_tokens=0",)),
    "without generation loss": Run("alpha_0", ("--generation_loss_weight=0",)),
}


def format_table(measured: dict[str, list[dict]]) -> str:
    """Percent, mean ± standard deviation over the seeds, and what a row has more of R@1 than the whole."""
    whole = [results["metrics"]["t2v_R@1"] for results in measured["f_pig"]]
    rows = [("", *METRICS, "t2v_R@1 minus F-Pig's, by seed")]
    for name, run in ABLATIONS.items():
        scores = {
            metric: [results["metrics"][metric] for results in measured[run.name]] for metric in METRICS
        }
        lost = (f"{value - own:+.1f}" for value, own in zip(scores["t2v_R@1"], whole, strict=True))
        rows.append((name, *map(format_spread, scores.values()), ", ".join(lost) if run != F_PIG else ""))
    return format_rows(rows)


def main() -> None:
    """Runs what is missing and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    print(f"\n{format_table(measure_runs(list(ABLATIONS.values()), parser.parse_args()))}")


if __name__ == "__main__":
    main()
