"""
Does a model know in which order things happen? Test videos of `shapes` against the same played backwards.

    python benchmarks/time_order.py outputs/shapes

Prints the share of captions that are nearer to their video than to its reverse; 50 % is a coin.
"""

import argparse


def measure_time_order(folder: str, batch_size: int = 64) -> float:
    """Percent of the captions of the test split."""
    import torch

    from fpig.datasets import load_captioned_videos
    from fpig.embedding import embed_captions, load_encoder

    model, processor = load_encoder(folder)
    records = load_captioned_videos("shapes", "test")
    text_embeds = embed_captions(model, processor, [record.captions[0] for record in records])
    num_right = 0
    for start in range(0, len(records), batch_size):
        videos = [record.video for record in records[start : start + batch_size]]
        pixel_values = processor(videos=videos, return_tensors="pt")["pixel_values"].to(model.device)
        with torch.inference_mode():
            forwards, backwards = (
                model.encode_video(frames).cpu() for frames in (pixel_values, pixel_values.flip(1))
            )
        texts = text_embeds[start : start + batch_size]
        num_right += int(((texts * forwards).sum(dim=1) > (texts * backwards).sum(dim=1)).sum())
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
