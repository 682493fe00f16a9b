"""
Embed a `datasets` repository, or a folder of videos: adds a column `embeds`, and saves or pushes the result.

    python examples/embed_dataset.py outputs/shapes organisation/clips embedded --split train
    python examples/embed_dataset.py outputs/shapes videos_folder embedded --push_to_hub organisation/clips
"""

import argparse

from datasets import Video, load_dataset

from fpig.embedding import embed_videos, load_encoder

parser = argparse.ArgumentParser(description="Add embeddings to a data set with a column `video`.")
parser.add_argument("model", help="trained model: a folder, or a repository of the Hub")
parser.add_argument("dataset", help="a repository of the Hub, or a folder of videos")
parser.add_argument("output_dir", help="read it again with `datasets.load_from_disk`")
parser.add_argument("--split", default="train")
parser.add_argument("--batch_size", type=int, default=32)
parser.add_argument("--push_to_hub", metavar="ORGANISATION/NAME", help="also push it, private")
arguments = parser.parse_args()

model, processor = load_encoder(arguments.model)
# Undecoded: fpig decodes by itself, and only the frames that it needs.
dataset = load_dataset(arguments.dataset, split=arguments.split).cast_column("video", Video(decode=False))
dataset = dataset.map(
    lambda batch: {"embeds": embed_videos(model, processor, batch["video"]).numpy()},
    batched=True,
    batch_size=arguments.batch_size,
    desc="Embedding",
)
dataset.save_to_disk(arguments.output_dir)
print(f"{len(dataset)} videos, {len(dataset[0]['embeds'])} numbers each: {arguments.output_dir}")
if arguments.push_to_hub:
    dataset.push_to_hub(arguments.push_to_hub, private=True)
    print(f"Pushed to {arguments.push_to_hub}")
