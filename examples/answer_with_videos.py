"""
Answer questions from what is in your videos: find the best ones, and give their captions to a language model.

    python examples/answer_with_videos.py outputs/shapes my.csv --language_model Qwen/Qwen3-0.6B

Questions come from standard input, one a line. Without a language model the prompts are printed.
"""

import argparse
import sys

from transformers import pipeline

from fpig.datasets import load_captioned_videos
from fpig.embedding import embed_captions, embed_videos, load_encoder

parser = argparse.ArgumentParser(description="Answer questions from captioned videos.")
parser.add_argument("model", help="trained model: a folder, or a repository of the Hub")
parser.add_argument("dataset", help="shapes, a csv, jsonl or parquet file, a folder, or a repository")
parser.add_argument("--split", help="of the data set (default: all videos)")
parser.add_argument("--language_model", help="a text-generation model: a folder, or a repository of the Hub")
parser.add_argument("--top_k", type=int, default=3, help="videos that an answer is drawn from")
arguments = parser.parse_args()

records = load_captioned_videos(arguments.dataset, arguments.split)
model, processor = load_encoder(arguments.model)
video_embeds = embed_videos(model, processor, [record.video for record in records])
generate = pipeline("text-generation", arguments.language_model) if arguments.language_model else None

for question in map(str.strip, sys.stdin):
    if not question:
        break
    scores = video_embeds @ embed_captions(model, processor, [question])[0]
    found = [records[index] for index in scores.topk(min(arguments.top_k, len(records))).indices.tolist()]
    context = "\n".join(f"- {record.video_id}: {record.captions[0]}" for record in found)
    prompt = (
        f"These videos were found:\n{context}\n\nAnswer from them alone, and name them.\n"
        f"Question: {question}\nAnswer:"
    )
    print(
        generate(prompt, max_new_tokens=100, return_full_text=False)[0]["generated_text"]
        if generate
        else prompt
    )
