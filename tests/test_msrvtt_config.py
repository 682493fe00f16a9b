"""The published runs' configs on full-size models: they parse, build, and take a step that learns."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from toys import CAPTIONS, write_clip
from transformers import CLIPConfig, CLIPModel

from fpig.argument_parsing import parse_arguments
from fpig.datasets import load_captioned_videos
from fpig.stages import configure_stage, plan_stages
from fpig.start import load_start
from fpig.tokenizer import train_tokenizer
from fpig.trainer import FPigTrainer
from modeling_fpig import FPigConfig

CONFIGS = Path(__file__).parents[1] / "configs"
NUM_PATCHES = {"b16": 196, "b32": 49}
# Those of the published checkpoints.
NUM_CLIP_PARAMETERS = {"b16": 149_620_737, "b32": 151_277_313}


@pytest.fixture
def make_clip(tmp_path):
    """`make_clip("b32")` → a folder with a `CLIPModel` of that size, random, and a tokenizer."""
    folder = tmp_path / "clip"

    def make(backbone):
        tokenizer = train_tokenizer(CAPTIONS, vocab_size=530, max_length=77)
        begin, end = tokenizer.bos_token_id, tokenizer.eos_token_id
        config = CLIPConfig(
            text_config={"bos_token_id": begin, "eos_token_id": end, "pad_token_id": end},
            vision_config={"patch_size": int(backbone[1:])},
        )
        torch.manual_seed(0)
        model = CLIPModel(config)
        assert sum(value.numel() for value in model.parameters()) == NUM_CLIP_PARAMETERS[backbone]
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    yield make
    shutil.rmtree(folder, ignore_errors=True)  # pytest keeps its folders, and this one is 0.6 GB


def sample_parameters(model):
    """Eight columns of every parameter: the model, its gradients and Adam's moments fill 3 GB already."""
    return {
        name: (value.detach().flatten(1)[:, :8] if value.ndim > 1 else value.detach()).clone()
        for name, value in model.named_parameters()
    }


def parse_config(backbone, *arguments):
    return parse_arguments(
        [str(CONFIGS / f"msrvtt9k_vit_{backbone}.yaml"), *arguments], CONFIGS / "shapes.yaml"
    )


@pytest.mark.parametrize("backbone", ["b16", "b32"])
def test_configs_hold_the_supplements_settings(backbone):
    model_args, _, training_args = parse_config(backbone)
    assert model_args.clip_name_or_path == f"openai/clip-vit-base-patch{backbone[1:]}"
    assert (model_args.num_frames, model_args.max_length, model_args.num_proxy_tokens) == (12, 50, 3)
    assert (model_args.num_selected_tokens, model_args.generation_loss_weight) == (16, 2)
    assert model_args.video_pooling == "pseudo_query"
    assert training_args.per_device_train_batch_size * 8 == 128
    assert training_args.gradient_accumulation_steps == 1
    assert (training_args.num_train_epochs, training_args.learning_rate) == (100, 1e-6)
    assert (training_args.optim, training_args.weight_decay) == ("adamw_torch", 0.2)
    assert (training_args.adam_beta1, training_args.adam_beta2) == (0.9, 0.98)
    assert (training_args.lr_scheduler_type, training_args.max_grad_norm) == ("cosine", 1.0)
    assert training_args.get_warmup_steps(70_300) == 703
    stages = plan_stages(FPigConfig(num_frames=model_args.num_frames), True, training_args)
    assert [(stage.name, stage.num_epochs) for stage in stages] == [("generator", 5), ("joint", 100)]


@pytest.mark.parametrize(("backbone", "num_frames"), [("b32", 12), ("b16", 2)])
def test_full_size_model_takes_a_training_step(make_clip, tmp_path, backbone, num_frames):
    rows = [
        {"video": str(write_clip(tmp_path / f"{index}.mp4", seed=index)), "caption": CAPTIONS[index]}
        for index in range(2)
    ]
    dataset = tmp_path / "clips.jsonl"
    dataset.write_text("".join(json.dumps(row) + "\n" for row in rows))
    model_args, data_args, training_args = parse_config(
        backbone,
        f"--dataset={dataset}",
        f"--clip_name_or_path={make_clip(backbone)}",
        f"--output_dir={tmp_path / 'run'}",
        *("--train_split=", "--validation_split=", "--test_split=", "--disable_tqdm=true"),
        # The first step of a warm-up has the rate zero; half precision on a CPU is none of the config's.
        *("--warmup_steps=0", "--num_train_epochs=1", "--use_cpu", "--fp16=false"),
        *(f"--num_frames={num_frames}", "--per_device_train_batch_size=2", "--dataloader_num_workers=0"),
        *("--dataloader_persistent_workers=false", "--save_strategy=no", "--eval_strategy=no"),
        *("--load_best_model_at_end=false", "--logging_steps=1"),
    )
    model, processor = load_start(model_args, [])
    assert (model.config.num_patches, model.config.num_frames) == (NUM_PATCHES[backbone], num_frames)
    assert model.config.text_config.vocab_size == 49408
    assert model.get_parameter("generator.encoder.layers.11.mlp.fc1.weight").shape == (2048, 512)

    stage = plan_stages(model.config, True, training_args)[-1]
    stage_args = configure_stage(stage, training_args, tmp_path / "run" / "joint", has_validation=False)
    records = load_captioned_videos(data_args.dataset)
    trainer = FPigTrainer(model, stage_args, processor, records)
    before = sample_parameters(model)
    trainer.train()

    (logged,) = [line for line in trainer.state.log_history if "loss" in line]
    assert logged["learning_rate"] == 1e-6
    assert 0 < logged["grad_norm"] < float("inf")
    assert logged["loss"] == pytest.approx(logged["retrieval_loss"] + 2 * logged["generation_loss"], abs=1e-3)
    after = sample_parameters(model)
    for name, value in before.items():
        change = (after[name] - value).abs().max()
        assert change > 0, name
        # Adam's first step is the learning rate at most; the rest is weight decay and rounding.
        assert change <= 1e-6 + (0.2e-6 + 3e-7) * value.abs().max(), name
