"""
What ranking costs beside the matrix products it cannot do without, and how much memory it takes.

    python benchmarks/metric.py          # 100,000 captions, 10,000 videos: about two minutes on two cores
    python benchmarks/metric.py --full   # 200,000 captions, 20,000 videos: about six

Two kinds of embeddings: `random`, where a true score is like any other, and `realistic`, where most true
scores are near the top of theirs. Captions come in any order. `rank_embeddings` (text to video, video to
text in both conventions, all with ties) and the bare products of the same blocks take turns, the products in
two ways: one after the other, each in all threads, and one per thread. The fastest turn counts, as other
programs can only add time, and the ratio is to the faster way: 1.3 is what it may be. On a busy machine trust
the ratio of processor time, which is to the products one per thread. The blocks that hold true pairs are
multiplied twice; the smaller the evaluation, the more of all blocks they are. Then the naive way, the whole
matrix and `argsort`, at a size where it fits. Memory is read from Linux's /proc in a process of its own.
"""

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import torch
from process_memory import read_memory
from video_retrieval.embedding_ranking import BlockProducts, rank_embeddings, start_threads
from video_retrieval.ranking import CAPTIONS_PER_BLOCK, VIDEOS_PER_BLOCK, summarize_retrieval

KINDS = ("random", "realistic")
QUICK_SIZE = (100_000, 10_000)
FULL_SIZE = (200_000, 20_000)
NAIVE_SIZE = (10_000, 4_000)
MIB = 2**20


def make_embeddings(
    kind: str, num_captions: int, num_videos: int, width: int
) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """Unit vectors [Q, D] and [V, D] and the video of each caption [Q], made in place to measure memory."""
    generator = torch.Generator().manual_seed(0)
    video_embeds = torch.randn(num_videos, width, generator=generator)
    text_embeds = torch.randn(num_captions, width, generator=generator)
    labels = np.random.default_rng(0).permutation(np.arange(num_captions) % num_videos)
    torch.nn.functional.normalize(video_embeds, out=video_embeds)
    torch.nn.functional.normalize(text_embeds, out=text_embeds)
    if kind == "realistic":
        # Noise that is 1 to 8 times as long as what is true: cosines of the true pairs from 0.7 to 0.12.
        noise = torch.empty(num_captions, 1).uniform_(1, 8, generator=generator)
        text_embeds *= noise
        for start in range(0, num_captions, 1000):
            text_embeds[start : start + 1000] += video_embeds[labels[start : start + 1000]]
        torch.nn.functional.normalize(text_embeds, out=text_embeds)
    return text_embeds, video_embeds, labels


def multiply_in_turn(text_embeds: torch.Tensor, video_embeds: torch.Tensor) -> None:
    """The products that `rank_embeddings` ranks, each once, in all threads and into the same memory."""
    products = torch.empty(CAPTIONS_PER_BLOCK, VIDEOS_PER_BLOCK)
    for videos in video_embeds.split(VIDEOS_PER_BLOCK):
        for texts in text_embeds.split(CAPTIONS_PER_BLOCK):
            torch.mm(texts, videos.T, out=products[: len(texts), : len(videos)])


def multiply_side_by_side(text_embeds: torch.Tensor, video_embeds: torch.Tensor) -> None:
    """The same products, in each thread another."""
    products = BlockProducts(text_embeds, video_embeds, CAPTIONS_PER_BLOCK, VIDEOS_PER_BLOCK)

    def multiply(videos: slice) -> None:
        for texts in products.text_blocks:
            products.multiply(texts, videos)

    with start_threads() as threads:
        list(threads.map(multiply, products.video_blocks))


def rank_naively(text_embeds: torch.Tensor, video_embeds: torch.Tensor, labels: np.ndarray) -> None:
    """The whole matrix and its sorted rows and columns: text to video, and the pool of captions."""
    scores = (text_embeds @ video_embeds.T).numpy()
    videos = np.argsort(-scores, axis=1)
    np.nonzero(videos == labels[:, None])[1] + 1
    captions = np.argsort(-scores, axis=0)
    np.argmax(labels[captions] == np.arange(len(video_embeds)), axis=0) + 1


def time_in_turns(num_turns: int, *functions: Callable[[], object]) -> np.ndarray:
    """Seconds, and seconds of all processors together, of each function's fastest turn [functions, 2]."""
    seconds = np.empty((num_turns, len(functions), 2))
    for turn in range(num_turns):
        for index, function in enumerate(functions):
            start = np.array([time.perf_counter(), time.process_time()])
            function()
            seconds[turn, index] = np.array([time.perf_counter(), time.process_time()]) - start
    return seconds.min(axis=0)


def measure_memory(kind: str, num_captions: int, num_videos: int, width: int) -> tuple[int, int]:
    """The most bytes that a process took that ranks, and how much of that is above its embeddings."""
    embeddings = make_embeddings(kind, num_captions, num_videos, width)
    before = read_memory("VmRSS")
    rank_embeddings(*embeddings)
    return read_memory("VmHWM"), read_memory("VmHWM") - before


def measure_kind(kind: str, size: tuple[int, int, int], num_turns: int) -> str:
    """One row of the table."""
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        peak, added = process.submit(measure_memory, kind, *size).result()
    text_embeds, video_embeds, labels = make_embeddings(kind, *size)
    ranks = []
    seconds, processor_seconds = time_in_turns(
        num_turns,
        lambda: ranks.append(rank_embeddings(text_embeds, video_embeds, labels)),
        lambda: multiply_in_turn(text_embeds, video_embeds),
        lambda: multiply_side_by_side(text_embeds, video_embeds),
    ).T
    recall = summarize_retrieval(ranks[0])["t2v_R@1"]
    cells = (
        f"{kind} (t2v_R@1 {recall:.1f})",
        *(f"{value:.2f} s" for value in seconds),
        f"{seconds[0] / min(seconds[1:]):.2f}",
        f"{processor_seconds[0] / processor_seconds[2]:.2f}",
        f"{peak / MIB:,.0f} MiB",
        f"{added / MIB:,.0f} MiB",
    )
    return f"| {' | '.join(cells)} |"


def compare_with_naive(width: int, num_turns: int) -> str:
    """How many times as long the naive way takes."""
    text_embeds, video_embeds, labels = make_embeddings("random", *NAIVE_SIZE, width)
    (ranking, _), (naive, _) = time_in_turns(
        num_turns,
        lambda: rank_embeddings(text_embeds, video_embeds, labels),
        lambda: rank_naively(text_embeds, video_embeds, labels),
    )
    return (
        f"{NAIVE_SIZE[0]:,} captions × {NAIVE_SIZE[1]:,} videos: {ranking:.2f} s; the whole matrix and "
        f"argsort {naive:.2f} s, {naive / ranking:.1f} times as long"
    )


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--full", action="store_true", help="200,000 captions × 20,000 videos")
    parser.add_argument("--captions", type=int, help="(default: 100,000)")
    parser.add_argument("--videos", type=int, help="(default: 10,000)")
    parser.add_argument("--width", type=int, default=512, help="numbers in an embedding (default: 512)")
    parser.add_argument("--turns", type=int, default=3, help="the fastest one counts (default: 3)")
    parser.add_argument("--threads", type=int, help="threads of torch (default: torch's)")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="(default: both)")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    default_size = FULL_SIZE if arguments.full else QUICK_SIZE
    size = (arguments.captions or default_size[0], arguments.videos or default_size[1], arguments.width)
    print("{:,} captions × {:,} videos × {}, {} threads".format(*size, torch.get_num_threads()))
    print("| embeddings | ranking | products in turn | side by side | ratio | of processor time |", end=" ")
    print("peak memory | above the embeddings |")
    print("|---" * 8 + "|")
    for kind in arguments.kinds:
        print(measure_kind(kind, size, arguments.turns), flush=True)
    print(compare_with_naive(arguments.width, arguments.turns))


if __name__ == "__main__":
    main()
