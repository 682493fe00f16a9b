"""
The files by which `SentenceTransformer(folder, trust_remote_code=True)` loads a release, as it saves them:
features of captions or of videos, made unit vectors. Writing them does not need the package.
"""

import json
from pathlib import Path
from typing import Any

SENTENCE_TRANSFORMERS_FILES: dict[str, Any] = {
    "modules.json": [
        {
            "idx": 0,
            "name": "0",
            "path": "",
            "type": "sentence_transformers.base.modules.transformer.Transformer",
        },
        {
            "idx": 1,
            "name": "1",
            "path": "1_Normalize",
            "type": "sentence_transformers.base.modules.normalize.Normalize",
        },
    ],
    "sentence_bert_config.json": {
        "transformer_task": "feature-extraction",
        "modality_config": {
            "text": {"method": "get_text_features", "method_output_name": "pooler_output"},
            "video": {"method": "get_video_features", "method_output_name": "pooler_output"},
        },
        "module_output_name": "sentence_embedding",
    },
    "1_Normalize/config.json": {
        "module_input_name": "sentence_embedding",
        "module_output_name": "sentence_embedding",
    },
    # Without `__version__`, which names the packages that have saved a model: none of them has.
    "config_sentence_transformers.json": {
        "default_prompt_name": None,
        "model_type": "SentenceTransformer",
        "prompts": {"document": "", "query": ""},
        "similarity_fn_name": "cosine",
    },
}


def write_sentence_transformers_files(folder: Path) -> None:
    """Writes them into `folder`, beside weights, configs, processor and code files."""
    for name, content in SENTENCE_TRANSFORMERS_FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(content, indent=2) + "\n")


__all__ = ["write_sentence_transformers_files"]
