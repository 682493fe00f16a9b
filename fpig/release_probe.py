"""
Embeds a caption and a clip with a release, run as a script in a process of its own.

In a process that has imported `modeling_fpig`, transformers takes the classes from there and never looks at
the code that lies beside the weights.

    python -P fpig/release_probe.py FOLDER_OR_REPOSITORY REVISION OUTPUT.safetensors
"""

import sys

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import AutoModel, AutoProcessor


@torch.inference_mode()
def embed_probe(name_or_path: str, revision: str) -> dict[str, torch.Tensor]:
    """Embeddings of a sentence and of noise, which any change of weights, code or settings changes."""
    source = {"revision": revision, "trust_remote_code": True}
    model = AutoModel.from_pretrained(name_or_path, dtype=torch.float32, **source).eval()
    processor = AutoProcessor.from_pretrained(name_or_path, **source)
    size, num_frames = model.config.vision_config.image_size, model.config.num_frames
    shape = (num_frames + 1, size + 8, size, 3)
    clip = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    return {
        "text_embeds": model.encode_text(**processor(text=["a dog runs along a beach"])),
        "video_embeds": model.encode_video(**processor(videos=[clip])),
    }


if __name__ == "__main__":
    save_file(embed_probe(*sys.argv[1:3]), sys.argv[3])
