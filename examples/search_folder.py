"""
Search your own folder: embed its videos once, then ask as often as you like.

    python examples/search_folder.py outputs/shapes ~/Videos
"""

import argparse
import sys
from pathlib import Path

from fpig.embedding import embed_captions, embed_videos, load_encoder
from fpig.search import find_videos

parser = argparse.ArgumentParser(description="Search a folder of videos by sentences.")
parser.add_argument("model", help="trained model: a folder, or a repository of the Hub")
parser.add_argument("videos_dir", type=Path)
parser.add_argument("--top_k", type=int, default=3)
arguments = parser.parse_args()

paths = find_videos(arguments.videos_dir)
model, processor = load_encoder(arguments.model)
video_embeds = embed_videos(model, processor, paths)  # [V, D] unit vectors: keep them, they need no query

print(f"{len(paths)} videos. What are you looking for?")
for query in map(str.strip, sys.stdin):
    if not query:
        break
    scores = video_embeds @ embed_captions(model, processor, [query])[0]
    for index in scores.topk(min(arguments.top_k, len(paths))).indices.tolist():
        print(f"{scores[index]:.3f}  {paths[index]}")
