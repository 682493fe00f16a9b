"""
What `keyframes_only` costs in accuracy and saves in time, on the test split of `shapes` or another data set.

    python benchmarks/keyframes.py MODEL [--dataset shapes]

The setting of the video processor that takes the nearest keyframe for each frame. How many keyframes a clip
has decides it, so their mean number is printed too.
"""

import argparse
import time

METRICS = ("t2v_R@1", "t2v_R@5", "t2v_R@10", "v2t_R@1")


def count_keyframes(videos: list[str]) -> float:
    """Mean number of keyframes of a video."""
    import av

    num_keyframes = 0
    for video in videos:
        with av.open(video) as container:
            num_keyframes += sum(packet.is_keyframe for packet in container.demux(video=0) if packet.size)
    return num_keyframes / len(videos)


def main() -> None:
    """Measures with and without, and prints a row for each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="folder of a trained model")
    parser.add_argument("--dataset", default="shapes", help="(default: %(default)s)")
    parser.add_argument("--split", default="test", help="(default: %(default)s)")
    arguments = parser.parse_args()

    from fpig.datasets import load_captioned_videos
    from fpig.embedding import load_encoder
    from fpig.evaluation import evaluate_retrieval
    from processing_fpig import FPigVideoProcessor

    model, processor = load_encoder(arguments.model)
    records = load_captioned_videos(arguments.dataset, arguments.split)
    print(f"{len(records)} videos with {count_keyframes([r.video for r in records]):.1f} keyframes each")
    print(f"| frames | {' | '.join(METRICS)} | s, with decoding |\n{'|---' * (len(METRICS) + 2)}|")
    settings = processor.video_processor
    for name, keyframes_only in (("exact", False), ("nearest keyframes", True)):
        processor.video_processor = FPigVideoProcessor(
            settings.num_frames, settings.size, settings.resize_mode, keyframes_only=keyframes_only
        )
        start = time.perf_counter()
        metrics = evaluate_retrieval(model, processor, records).metrics
        cells = (*(f"{metrics[metric]:.1f}" for metric in METRICS), f"{time.perf_counter() - start:.1f}")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
