"""What several test files share: one thread, no network, a tiny model whose every part matters."""

import os

# Before torch and huggingface_hub are imported; subprocesses inherit them.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_XET"] = "1"

from pathlib import Path

from hub_server import TOKEN, Hub, start_server

# A Hub of our own; `online` lets a test reach it. The client fixes its address when it is imported.
HUB_SERVER = start_server()
os.environ["HF_ENDPOINT"] = HUB_SERVER.url

import pytest
import torch

from modeling_fpig import FPigConfig, FPigModel

torch.set_num_threads(1)

# Every count differs from every other, so that a confusion of two of them can't pass.
TINY_FIELDS = {
    "text_config": {
        "vocab_size": 99,
        "hidden_size": 64,
        "intermediate_size": 80,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 30,
        "bos_token_id": 97,
        "eos_token_id": 98,
        "pad_token_id": 98,
    },
    "vision_config": {
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 6,
        "image_size": 24,
        "patch_size": 8,
    },
    "projection_dim": 40,
    "num_frames": 4,
    "num_proxy_tokens": 2,
    "num_selected_tokens": 5,
}


def make_config(**overrides) -> FPigConfig:
    """The tiny configuration; a sub-config's override is merged into it."""
    fields = {name: dict(value) if isinstance(value, dict) else value for name, value in TINY_FIELDS.items()}
    for name, value in overrides.items():
        fields[name] = fields[name] | value if isinstance(value, dict) else value
    return FPigConfig(**fields)


@torch.no_grad()
def fill_parameters(model: torch.nn.Module, seed: int = 0) -> None:
    """Random values in every parameter: no zero table, identity or unit norm hides a wrong formula."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(model.named_parameters()):
        if name == "logit_scale":
            parameter.fill_(3.0)
            continue
        noise = torch.randn(parameter.shape, generator=generator)
        if "norm" in name or "layrnorm" in name:
            parameter.copy_(0.2 * noise + name.endswith("weight"))
        elif parameter.ndim < 2:
            parameter.copy_(0.3 * noise)
        else:
            parameter.copy_(noise * (1.5 / parameter[0].numel() ** 0.5 if "embedding" not in name else 0.5))


@pytest.fixture(scope="session")
def make_tiny_config():
    """`make_tiny_config(**overrides)` → a valid `FPigConfig` of a very small model."""
    return make_config


@pytest.fixture
def tiny_config():
    """The configuration of `tiny_model`."""
    return make_config()


@pytest.fixture(scope="session")
def make_tiny_model():
    """`make_tiny_model(**overrides)` → a tiny `FPigModel` in evaluation mode, all parameters random."""

    def make(**overrides) -> FPigModel:
        model = FPigModel(make_config(**overrides)).eval()
        fill_parameters(model)
        return model

    return make


@pytest.fixture
def tiny_model(make_tiny_model):
    """A tiny `FPigModel`, fresh for every test."""
    return make_tiny_model()


@pytest.fixture
def tiny_batch():
    """Three caption–video pairs for `tiny_model`: `input_ids`, `attention_mask`, `pixel_values`."""
    generator = torch.Generator().manual_seed(1)
    input_ids = torch.full((3, 9), 98)
    input_ids[:, 0] = 97
    attention_mask = torch.zeros(3, 9, dtype=torch.long)
    for row, num_words in enumerate((3, 7, 1)):
        input_ids[row, 1 : 1 + num_words] = torch.randint(0, 97, (num_words,), generator=generator)
        attention_mask[row, : num_words + 2] = 1
    pixel_values = torch.randn(3, 4, 3, 24, 24, generator=generator)
    return {"input_ids": input_ids, "attention_mask": attention_mask, "pixel_values": pixel_values}


@pytest.fixture(scope="module")
def processor():
    """A processor for small clips; see `toys`."""
    from toys import make_processor

    return make_processor()


@pytest.fixture(scope="module")
def model(processor):
    """A tiny model for `processor`."""
    from toys import make_model

    return make_model(processor)


@pytest.fixture
def hub():
    """What is on our Hub: nothing yet; see `hub_server`."""
    HUB_SERVER.hub = Hub(url=HUB_SERVER.url)
    return HUB_SERVER.hub


@pytest.fixture
def online(hub, monkeypatch, tmp_path):
    """The Hub, for this very process, with a token; pauses between tries take no time."""
    from huggingface_hub import constants

    from fpig import hub_requests

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hub_requests.time, "sleep", lambda seconds: None)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    return hub


@pytest.fixture(scope="module")
def release(processor, model, tmp_path_factory):
    """A release folder of the tiny model."""
    from fpig.hub import write_release

    folder = tmp_path_factory.mktemp("releases") / "fpig-toy"
    write_release(folder, model, processor, None, Path(__file__).parents[1] / "model_card.md")
    return folder
