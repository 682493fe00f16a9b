"""
The paper's argument, measured: how well each method finds videos, what a query costs, what a video takes.

    python benchmarks/methods.py --seeds 0 1 2

Accuracy is that of small models on the generated benchmark `shapes` (see `shapes_runs.py`: all start from the
same towers and see every video equally often). Cost is that of the interaction and the embeddings of ViT-B/32
with 12 frames, D = 512 and 16 tokens a video, in float32 on this machine: it does not depend on weights.
Where real queries look at videos, their keys and values are made before and kept.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    import torch

RUNS = [
    F_PIG,
    Run("clip4clip", ("--video_pooling=mean", *WITHOUT_GENERATOR_STAGE)),
    Run("clip_vip", ("--video_pooling=class_token", *WITHOUT_GENERATOR_STAGE)),
]
# Name → run, key of its results, and how it searches.
METHODS = {
    "CLIP4Clip (mean of frames)": ("clip4clip", "metrics", "embeddings"),
    "CLIP-ViP (class token)": ("clip_vip", "metrics", "embeddings"),
    "F-Pig": ("f_pig", "metrics", "embeddings"),
    "F-Pig's class token": ("f_pig", "class_token_metrics", "embeddings"),
    "F-Pig, top 10 re-ranked by the query": ("f_pig", "two_stage_metrics", "two stages"),
    "F-Pig, the query in the interaction": ("f_pig", "query_interaction_metrics", "every pair"),
}
GALLERIES = (1_000, 10_000, 100_000)
NUM_TOKENS, NUM_RERANKED, WIDTH = 16, 10, 512
NUM_STORED_VECTORS = {"embeddings": 1, "two stages": 1 + 2 * NUM_TOKENS, "every pair": 2 * NUM_TOKENS}
DISTINCT_VIDEOS = 10_000  # with keys and values of their own; a larger gallery goes over them again
VIDEOS_PER_BLOCK = 1_000


def make_searches(gallery_size: int) -> dict[str, Callable[[], object]]:
    """One query through a gallery, in each way; every call does the whole work of a query."""
    import torch

    from fpig.single_tower import project_videos, score_pairs
    from modeling_fpig import FPigConfig, FPigModel

    torch.manual_seed(0)
    tower = {"num_hidden_layers": 1}  # the towers take no part
    model = FPigModel(FPigConfig(text_config=tower, vision_config=tower)).eval()
    query = torch.nn.functional.normalize(torch.randn(WIDTH), dim=0)
    embeds = torch.nn.functional.normalize(torch.randn(gallery_size, WIDTH), dim=-1)
    num_distinct = min(gallery_size, DISTINCT_VIDEOS)
    videos = project_videos(model, torch.randn(num_distinct, NUM_TOKENS, WIDTH))

    def rank_embeddings() -> "torch.Tensor":
        return (embeds @ query).topk(NUM_RERANKED).indices

    def rank_in_two_stages() -> "torch.Tensor":
        best = rank_embeddings()
        stored = best % num_distinct
        scores = score_pairs(model, query[None, None], videos.keys[stored], videos.values[stored])[:, 0]
        return best[scores.argsort(descending=True)]

    def rank_every_pair() -> "torch.Tensor":
        scores = []
        for start in range(0, gallery_size, VIDEOS_PER_BLOCK):
            first = start % num_distinct
            block = slice(first, first + VIDEOS_PER_BLOCK)
            scores.append(score_pairs(model, query[None, None], videos.keys[block], videos.values[block]))
        return torch.cat(scores)[:, 0].topk(NUM_RERANKED).indices

    return {"embeddings": rank_embeddings, "two stages": rank_in_two_stages, "every pair": rank_every_pair}


def time_searches(gallery_size: int, num_rounds: int) -> dict[str, float]:
    """Median milliseconds of a query, the ways in turn."""
    searches = make_searches(gallery_size)
    seconds: dict[str, list[float]] = {name: [] for name in searches}
    for number in range(num_rounds + 1):
        for name, search in searches.items():
            start = time.perf_counter()
            search()
            if number:  # the first round warms up
                seconds[name].append(time.perf_counter() - start)
    return {name: 1000 * statistics.median(values) for name, values in seconds.items()}


def format_table(measured: dict[str, list[dict]], milliseconds: dict[int, dict[str, float]]) -> str:
    """Accuracy in percent, mean ± standard deviation over the seeds, and the cost of each method."""
    head = ("", *METRICS, *(f"ms/query, {size:,}" for size in milliseconds), "bytes/video")
    rows = [head]
    for name, (run, key, way) in METHODS.items():
        scores = [[results[key].get(metric) for results in measured[run]] for metric in METRICS]
        cells = ["–" if None in values else format_spread(values) for values in scores]
        cells += [f"{times[way]:.2f}" for times in milliseconds.values()]
        rows.append((name, *cells, f"{4 * WIDTH * NUM_STORED_VECTORS[way]:,}"))
    return format_rows(rows)


def format_differences(measured: dict[str, list[dict]]) -> str:
    """What F-Pig has more of text → video R@1 than each other method, seed by seed."""
    own = [results["metrics"]["t2v_R@1"] for results in measured["f_pig"]]
    rows = [("F-Pig minus", "t2v_R@1", "by seed")]
    for name, (run, key, _) in METHODS.items():
        if (run, key) != ("f_pig", "metrics"):
            others = [results[key]["t2v_R@1"] for results in measured[run]]
            differences = [ours - theirs for ours, theirs in zip(own, others, strict=True)]
            by_seed = ", ".join(f"{value:+.1f}" for value in differences)
            rows.append((name, format_spread(differences, "{:+.1f}"), by_seed))
    return format_rows(rows)


def main() -> None:
    """Runs what is missing and prints both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--num_rounds", type=int, default=5, help="timed queries (default: %(default)s)")
    arguments = parser.parse_args()
    measured = measure_runs(RUNS, arguments)
    milliseconds = {size: time_searches(size, arguments.num_rounds) for size in GALLERIES}
    print(f"\n{format_table(measured, milliseconds)}\n\n{format_differences(measured)}")


if __name__ == "__main__":
    main()
