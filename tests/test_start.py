"""The three starts of a run: random weights, a CLIP checkpoint, a trained folder; and what is refused."""

import dataclasses
import importlib.util
import sys
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub.errors import StrictDataclassError
from toys import CAPTIONS, make_model, make_processor, write_clip
from transformers import CLIPConfig, CLIPModel

from fpig.start import get_base_model, load_start
from fpig.tokenizer import train_tokenizer
from fpig.training_args import DataArguments, FPigTrainingArguments, ModelArguments

SMALL = {
    "num_frames": 3,
    "num_proxy_tokens": 2,
    "num_selected_tokens": 7,
    "max_length": 24,
    "image_size": 16,
    "patch_size": 8,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "projection_dim": 20,
    "vocab_size": 540,
    "generation_loss_weight": 0.5,
    "logit_scale_init_value": 1.25,
}
OF_CLIP = {"num_frames": 3, "num_proxy_tokens": 2, "num_selected_tokens": 7, "max_length": 24}


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    """A random `CLIPModel` with a tokenizer, as CLIP's repositories have them."""
    tokenizer = train_tokenizer(CAPTIONS, vocab_size=530, max_length=28)
    special = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    tower = {"intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    text_config = tower | special | {"vocab_size": len(tokenizer), "max_position_embeddings": 28}
    config = CLIPConfig(
        text_config=text_config | {"hidden_size": 32, "pad_token_id": tokenizer.pad_token_id},
        vision_config=tower | {"hidden_size": 40, "image_size": 24, "patch_size": 8},
        projection_dim=36,
    )
    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    CLIPModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def trained_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    processor = make_processor()
    make_model(processor, num_selected_tokens=6).save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder)


def check_that_they_fit(model, processor, clip):
    """What the processor makes is what the model takes, to the longest caption and the last special token."""
    config, tokenizer = model.config, processor.tokenizer
    assert processor.video_processor.num_frames == config.num_frames
    assert processor.video_processor.size == config.vision_config.image_size
    assert processor.max_length <= config.text_config.max_position_embeddings
    assert len(tokenizer) == config.text_config.vocab_size
    assert tokenizer.bos_token_id == config.text_config.bos_token_id
    assert tokenizer.eos_token_id == config.text_config.eos_token_id
    batch = processor(text=["circle " * 99, "a star"], videos=[str(clip)] * 2)
    assert batch["input_ids"].shape == (2, processor.max_length)
    output = model.eval()(**batch)
    assert output.text_embeds.shape == output.video_embeds.shape == (2, config.projection_dim)
    assert torch.isfinite(output.loss)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", seed=1)


def test_small_model_has_the_sizes_that_are_asked_for(clip):
    model, processor = load_start(ModelArguments(**SMALL), CAPTIONS)
    config = model.config
    for name in ("num_frames", "num_proxy_tokens", "num_selected_tokens", "projection_dim"):
        assert config.to_dict()[name] == SMALL[name]
    assert (config.generation_loss_weight, config.logit_scale_init_value) == (0.5, 1.25)
    assert model.logit_scale.item() == 1.25
    for tower in (config.text_config, config.vision_config):
        assert (tower.hidden_size, tower.intermediate_size) == (24, 96)
        assert (tower.num_hidden_layers, tower.num_attention_heads) == (2, 3)
    assert (config.vision_config.image_size, config.vision_config.patch_size) == (16, 8)
    assert config.text_config.vocab_size <= 540
    assert processor.max_length == processor.tokenizer.model_max_length == 24
    check_that_they_fit(model, processor, clip)


@pytest.mark.parametrize("video_pooling", ["pseudo_query", "class_token", "mean"])
def test_every_pooling_is_built_small_and_on_clip(clip_folder, clip, video_pooling):
    for sizes in (SMALL, OF_CLIP | {"clip_name_or_path": clip_folder}):
        model, processor = load_start(ModelArguments(**sizes, video_pooling=video_pooling), CAPTIONS)
        assert model.config.video_pooling == video_pooling
        parts = {name for name, _ in model.named_children()}
        assert ({"generator", "interaction"} <= parts) == (video_pooling == "pseudo_query")
        check_that_they_fit(model, processor, clip)


@pytest.mark.parametrize(("num_selected_tokens", "expected"), [(7, 24), (14, 24), (15, 25), (20, 30)])
def test_text_positions_hold_captions_and_the_generators_sequence(num_selected_tokens, expected):
    """Sequence: begin, class token, 2 proxies, 5 frames, the selected patches, end; captions are up to 24."""
    sizes = SMALL | {"num_frames": 5, "num_selected_tokens": num_selected_tokens, "max_length": 24}
    config = load_start(ModelArguments(**sizes), CAPTIONS)[0].config
    assert config.text_config.max_position_embeddings == expected
    assert config.get_generator_length(5) == num_selected_tokens + 10 <= expected


def test_captions_may_be_longer_than_the_generators_sequence():
    config = load_start(ModelArguments(**SMALL | {"max_length": 60}), CAPTIONS)[0].config
    assert config.text_config.max_position_embeddings == 60


def test_small_models_tokenizer_knows_the_captions():
    _, processor = load_start(ModelArguments(**SMALL), ["moves moves moves moves moves"] * 9)
    assert processor.tokenizer.tokenize("moves") == ["moves</w>"]


def test_clip_start_is_clip(clip_folder, clip):
    arguments = ModelArguments(**OF_CLIP, clip_name_or_path=clip_folder, generation_loss_weight=0.75)
    model, processor = load_start(arguments, [])
    published = CLIPModel.from_pretrained(clip_folder)
    parameters = dict(model.named_parameters())
    for name, value in published.named_parameters():
        assert name == "logit_scale" or torch.equal(parameters[name], value), name
    assert model.config.generation_loss_weight == 0.75
    assert (model.config.num_frames, model.config.num_selected_tokens) == (3, 7)
    assert processor.max_length == processor.tokenizer.model_max_length == 24
    end = published.text_model.embeddings.token_embedding.weight[processor.tokenizer.eos_token_id]
    assert torch.equal(model.generator.end_embedding, end)
    check_that_they_fit(model, processor, clip)


def test_trained_start_is_the_trained_model(trained_folder, clip):
    """Its own config decides, not the settings; the loss weight alone is the run's."""
    arguments = ModelArguments(**SMALL, model_name_or_path=trained_folder, video_pooling="mean")
    model, processor = load_start(arguments, [])
    expected = make_model(make_processor(), num_selected_tokens=6)
    torch.testing.assert_close(model.state_dict(), expected.state_dict(), rtol=0, atol=0)
    assert (model.config.num_frames, model.config.num_selected_tokens) == (4, 6)
    assert (model.config.video_pooling, processor.max_length) == ("pseudo_query", 20)
    assert model.config.generation_loss_weight == 0.5
    check_that_they_fit(model, processor, clip)


def test_two_starts_are_refused(clip_folder, trained_folder):
    arguments = ModelArguments(clip_name_or_path=clip_folder, model_name_or_path=trained_folder)
    with pytest.raises(
        ValueError, match=r"`clip_name_or_path` is '.*' and `model_name_or_path` is '.*'; a run"
    ):
        load_start(arguments, CAPTIONS)


def test_captions_longer_than_clips_positions_are_refused(clip_folder):
    arguments = ModelArguments(**OF_CLIP | {"max_length": 29}, clip_name_or_path=clip_folder)
    with pytest.raises(
        ValueError, match=r"`max_length` is 29 but .* has 28 positions; pass `--max_length 28`"
    ):
        load_start(arguments, [])
    arguments = dataclasses.replace(arguments, max_length=28, num_selected_tokens=1)
    assert load_start(arguments, [])[1].max_length == 28


@pytest.mark.parametrize("key", ["clip_name_or_path", "model_name_or_path"])
@pytest.mark.parametrize("value", ["/nowhere/at all", "nobody/nothing"])
def test_missing_checkpoints_are_named(key, value):
    with pytest.raises(OSError, match=f"`{key}` is '{value}' and can't be loaded: ") as error:
        load_start(ModelArguments(**{key: value}), CAPTIONS)
    assert "\n" not in str(error.value)


def test_a_trained_folder_is_no_clip_and_clip_no_trained_folder(clip_folder, trained_folder):
    with pytest.raises(ValueError, match="a checkpoint of type 'fpig'; pass one of type 'clip'"):
        load_start(ModelArguments(clip_name_or_path=trained_folder), CAPTIONS)
    with pytest.raises(ValueError, match="holds a model of type 'clip'; pass a trained one of type 'fpig'"):
        load_start(ModelArguments(model_name_or_path=clip_folder), CAPTIONS)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"num_selected_tokens": 13}, "`num_selected_tokens` is 13; 3 frames of 4 patches have only 12"),
        ({"patch_size": 7}, "`image_size` is 16; it must be a positive multiple of `patch_size` 7"),
        ({"logit_scale_init_value": 9.0}, "`logit_scale_init_value` is 9.0; it must lie in"),
        (
            {"num_attention_heads": 5},
            "hidden size .24. is not a multiple of the number of attention heads .5.",
        ),
        ({"vocab_size": 100}, "`vocab_size` is 100 but bytes and special tokens alone take 514"),
        ({"max_length": 2}, "`max_length` is 2; it must be an integer of at least 3"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(sizes, message):
    with pytest.raises((ValueError, StrictDataclassError), match=message):
        load_start(ModelArguments(**SMALL | sizes), CAPTIONS)


@pytest.fixture(scope="module")
def script():
    """`train.py` as a module."""
    spec = importlib.util.spec_from_file_location("train_script", Path(__file__).parents[1] / "train.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_videos_without_splits_are_all_trained_on(script, clip, tmp_path):
    (tmp_path / "clips.csv").write_text(f"video,caption\n{clip},a bar\n{clip},a ball\n")
    no_splits = {"train_split": "", "validation_split": "", "test_split": ""}
    data_args = DataArguments(dataset=str(tmp_path / "clips.csv"), **no_splits)
    training_args = FPigTrainingArguments(output_dir=str(tmp_path / "run"), use_cpu=True)
    splits = script.load_splits(data_args, training_args)
    assert {name: [video.captions for video in split.records] for name, split in splits.items()} == {
        "train": [("a bar", "a ball")]
    }


def test_train_script_refuses_sizes_that_do_not_fit_in_one_line(script, clip, tmp_path, monkeypatch):
    (tmp_path / "clips.csv").write_text(f"video,caption\n{clip},a bar\n")
    settings = SMALL | {"num_selected_tokens": 13, "dataset": str(tmp_path / "clips.csv"), "use_cpu": True}
    settings |= {"train_split": "", "validation_split": "", "test_split": ""}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(settings))
    run_dir = tmp_path / "run"
    monkeypatch.setattr(sys, "argv", ["train.py", str(tmp_path / "tiny.yaml"), f"--output_dir={run_dir}"])
    with pytest.raises(SystemExit) as error:
        script.main()
    assert "\n" not in error.value.code
    assert error.value.code.startswith("error: ")
    assert "`num_selected_tokens` is 13; 3 frames of 4 patches have only 12" in error.value.code
    assert not run_dir.exists()


def test_base_model_is_a_name_of_the_hub_and_no_folder(tmp_path):
    assert get_base_model(ModelArguments()) is None
    clip = "openai/clip-vit-base-patch32"
    assert get_base_model(ModelArguments(clip_name_or_path=clip)) == clip
    assert get_base_model(ModelArguments(model_name_or_path="someone/fpig")) == "someone/fpig"
    assert get_base_model(ModelArguments(clip_name_or_path=str(tmp_path))) is None
    assert get_base_model(ModelArguments(model_name_or_path=str(tmp_path))) is None
