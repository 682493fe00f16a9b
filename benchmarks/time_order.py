"""
Does a model know in which order things happen? Test videos of `shapes` against the same played backwards.

    python benchmarks/time_order.py outputs/shapes

Prints the share of captions that are nearer to their video than to its reverse, equals counted as half: 50 %
is a coin, and a model for which the order makes no difference.
"""

import argparse

ROUNDING = 1e-6  # of a cosine


def measure_time_order(folder: str, batch_size: int = 64) -> float:
    """Percent of the captions of the test split."""
    import torch

    from fpig.datasets import load_captioned_videos
    from fpig.embedding import embed_captions, load_encoder

    model, processor = load_encoder(folder)
    records = load_captioned_videos("shapes", "test")
    text_embeds = embed_captions(model, processor, [record.captions[0] for record in records])
    num_right = 0.0
    for start in range(0, len(records), batch_size):
        videos = [record.video for record in records[start : start + batch_size]]
        pixel_values = processor(videos=videos, return_tensors="pt")["pixel_values"].to(model.device)
        with torch.inference_mode():
            forwards, backwards = (
                model.encode_video(frames).cpu() for frames in (pixel_values, pixel_values.flip(1))
            )
        differences = (text_embeds[start : start + batch_size] * (forwards - backwards)).sum(dim=1)
        num_right += int((differences > ROUNDING).sum()) + int((differences.abs() <= ROUNDING).sum()) / 2
    return 100 * num_right / len(records)


def main() -> None:
    """Measures each folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", metavar="FOLDER", help="trained model")
    for folder in parser.parse_args().folders:
        print(f"{measure_time_order(folder):.1f} %  {folder}", flush=True)


if __name__ == "__main__":
    main()
