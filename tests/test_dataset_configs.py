"""The configs of the published data sets: they differ in what differs, and fit data set, model and script."""

import importlib.util
from pathlib import Path

import pytest
import torch
import yaml
from fake_datasets import fake_msrvtt, link_videos
from safetensors.torch import load_file
from toys import make_model, make_processor, make_records, write_clip

from fpig.annotations import PUBLISHED
from fpig.argument_parsing import parse_arguments
from fpig.settings import get_stages_dir
from fpig.stages import plan_stages, run_stage
from modeling_fpig import FPigConfig

ROOT = Path(__file__).parents[1]
CONFIGS = sorted(path.stem for path in (ROOT / "configs").glob("*_vit_*.yaml"))
# What each sets otherwise than `msrvtt3k_vit_b32.yaml`, names and folders aside.
DIFFERENCES = {
    "msrvtt9k": {"validation_split": "", "eval_strategy": "no", "load_best_model_at_end": False},
    "msrvtt3k": {},
    "msvd": {},
    "vatex": {"on_missing": "skip"},
    "didemo": {"num_frames": 32, "max_length": 64},
}
NAMES = {
    "msrvtt9k": ("msrvtt1k", "data/msrvtt"),
    "msrvtt3k": ("msrvtt3k", "data/msrvtt"),
    "msvd": ("msvd", "data/msvd"),
    "vatex": ("vatex", "data/vatex"),
    "didemo": ("didemo", "data/didemo"),
}


def read_config(name):
    return yaml.safe_load((ROOT / "configs" / f"{name}.yaml").read_text())


def parse_config(name, *arguments):
    path = ROOT / "configs" / f"{name}.yaml"
    return parse_arguments([str(path), *arguments], ROOT / "configs" / "shapes.yaml")


@pytest.fixture(scope="module")
def train_script():
    spec = importlib.util.spec_from_file_location("train_script_of_configs", ROOT / "train.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_there_are_two_for_each_data_set():
    assert sorted(f"{name}_vit_{backbone}" for name in NAMES for backbone in ("b16", "b32")) == CONFIGS


@pytest.mark.parametrize("name", CONFIGS)
def test_configs_differ_in_what_differs_alone(name):
    data, backbone = name.split("_vit_b")
    dataset, root = NAMES[data]
    named = {
        "dataset": dataset,
        "data_root": root,
        "clip_name_or_path": f"openai/clip-vit-base-patch{backbone}",
        "output_dir": f"outputs/{name}",
    }
    assert read_config(name) == read_config("msrvtt3k_vit_b32") | named | DIFFERENCES[data]


@pytest.mark.parametrize("name", CONFIGS)
def test_comments_name_the_config_and_its_data(name):
    dataset, root = NAMES[name.split("_vit_")[0]]
    first, _, third, *_ = (ROOT / "configs" / f"{name}.yaml").read_text().splitlines()
    assert first == f"# accelerate launch --num_processes 8 train.py configs/{name}.yaml"
    assert f"`python -m fpig.annotations check {dataset} {root}`" in third


@pytest.mark.parametrize("name", CONFIGS)
def test_configs_fit_their_data_set_and_clip(name):
    model_args, data_args, training_args = parse_config(name)
    published = PUBLISHED[data_args.dataset].splits
    splits = [data_args.train_split, data_args.validation_split, data_args.test_split]
    assert {split for split in splits if split} == set(published)
    assert model_args.max_length <= 77
    # Begin and end slot, class token, proxies, frames and patches have CLIP's text positions.
    counts = ("num_proxy_tokens", "num_frames", "num_selected_tokens")
    config = FPigConfig(**{key: getattr(model_args, key) for key in counts})
    assert config.get_generator_length(config.num_frames) == (54 if "didemo" in name else 34)
    assert config.text_config.max_position_embeddings == 77
    assert training_args.load_best_model_at_end == bool(data_args.validation_split)
    stages = plan_stages(config, True, training_args)
    assert [(stage.name, stage.num_epochs) for stage in stages] == [("generator", 5), ("joint", 100)]


def test_script_loads_the_published_splits(train_script, tmp_path, capsys):
    ids = fake_msrvtt(tmp_path)
    clip = write_clip(tmp_path / "clip.mp4", seed=1, num_frames=1)
    link_videos(tmp_path, (f"{video_id}.mp4" for video_id in ids[:-1]), clip)
    arguments = (f"--data_root={tmp_path}", "--use_cpu", "--fp16=false")
    with pytest.raises(FileNotFoundError, match="1 of 1000 videos of 'msrvtt1k' are missing: .*video9999;"):
        train_script.load_splits(*parse_config("msrvtt9k_vit_b32", *arguments)[1:])
    link_videos(tmp_path, ["video9999.mp4"], clip)
    splits = train_script.load_splits(*parse_config("msrvtt9k_vit_b32", *arguments)[1:])
    assert {role: len(split.records) for role, split in splits.items()} == {"train": 9000, "test": 1000}
    splits = train_script.load_splits(*parse_config("msrvtt3k_vit_b32", *arguments)[1:])
    counts = {role: len(split.records) for role, split in splits.items()}
    assert counts == {"train": 6513, "validation": 497, "test": 2990}
    wanted = parse_config("msrvtt9k_vit_b32", *arguments, "--validation_split=validation")
    with pytest.raises(ValueError, match="`split` is 'validation' but 'msrvtt1k' has only train, test"):
        train_script.load_splits(*wanted[1:])


def test_own_data_in_the_place_of_published_ones(train_script, tmp_path):
    write_clip(tmp_path / "a.mp4", seed=1)
    (tmp_path / "list.csv").write_text("video,caption,split\na.mp4,one,train\ngone.mp4,two,train\n")
    arguments = (f"--dataset={tmp_path / 'list.csv'}", "--test_split=", "--use_cpu", "--fp16=false")
    with pytest.raises(ValueError, match="`root` is 'data/msrvtt' but .* leave it empty"):
        train_script.load_splits(*parse_config("msrvtt9k_vit_b32", *arguments)[1:])
    arguments += ("--data_root=", "--on_missing=skip")
    splits = train_script.load_splits(*parse_config("msrvtt9k_vit_b32", *arguments)[1:])
    assert [record.video_id for record in splits["train"].records] == ["a.mp4"]


def test_without_a_validation_split_the_last_checkpoint_comes_out(tmp_path):
    """The settings of `msrvtt9k` on a toy: nothing is evaluated, and nothing chosen."""
    processor = make_processor()
    _, _, training_args = parse_config(
        "msrvtt9k_vit_b32",
        *(f"--output_dir={tmp_path / 'run'}", "--use_cpu", "--fp16=false", "--disable_tqdm=true"),
        *("--num_train_epochs=2", "--learning_rate=1e-3", "--warmup_steps=0", "--save_total_limit=9"),
        *("--per_device_train_batch_size=2", "--dataloader_num_workers=0"),
        "--dataloader_persistent_workers=false",
    )
    model = make_model(processor)
    stage = plan_stages(model.config, True, training_args)[-1]
    trained = run_stage(stage, model, processor, make_records(tmp_path, 4), [], training_args)
    stage_dir = get_stages_dir(tmp_path / "run") / "joint"
    assert sorted(path.name for path in stage_dir.glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-4"]
    last = load_file(stage_dir / "checkpoint-4" / "model.safetensors")
    for name, value in trained.state_dict().items():
        assert torch.equal(value, last[name]), name
    state = yaml.safe_load((stage_dir / "checkpoint-4" / "trainer_state.json").read_text())
    assert state["best_model_checkpoint"] is None
    assert not [key for line in state["log_history"] for key in line if key.startswith("eval_")]


def test_unknown_ways_with_missing_videos_are_refused(capsys):
    with pytest.raises(SystemExit):
        parse_config("vatex_vit_b32", "--on_missing=ignore")
    assert "`on_missing` is 'ignore'; it must be one of raise, skip" in capsys.readouterr().err
