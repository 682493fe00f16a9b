"""Captions and videos in one call, and the way of the processor through a folder into another process."""

import copy
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from make_clips import make_clip
from toys import make_processor

from fpig.tokenizer import train_tokenizer
from processing_fpig import FPigProcessor, FPigVideoProcessor

LONG_CAPTION = " ".join(["red ball"] * 60)
FRAMES = np.random.default_rng(0).integers(0, 256, (6, 30, 40, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(["a red ball moves left", "a blue square blinks"], vocab_size=540, max_length=77)


@pytest.fixture(scope="module")
def processor(tokenizer):
    return FPigProcessor(FPigVideoProcessor(num_frames=3, size=32), tokenizer)


def test_text_alone(processor, tokenizer):
    batch = processor(text=["a red ball", "blue"])
    assert set(batch) == {"input_ids", "attention_mask"}
    assert batch["input_ids"].shape == batch["attention_mask"].shape
    for row, caption in enumerate(["a red ball", "blue"]):
        length = int(batch["attention_mask"][row].sum())
        ids = batch["input_ids"][row, :length].tolist()
        assert ids[0] == tokenizer.bos_token_id
        assert ids.index(tokenizer.eos_token_id) == length - 1
        assert tokenizer.decode(ids[1:-1]).strip() == caption
        assert not batch["attention_mask"][row, length:].any()


def test_one_caption_is_a_batch_of_one(processor):
    one, listed = processor(text="a red ball"), processor(text=["a red ball"])
    assert one["input_ids"].shape[0] == 1
    assert torch.equal(one["input_ids"], listed["input_ids"])


def test_videos_alone(processor):
    batch = processor(videos=[FRAMES, make_clip("mp4_short_groups")])
    assert set(batch) == {"pixel_values"}
    assert batch["pixel_values"].shape == (2, 3, 3, 32, 32)
    assert torch.equal(batch["pixel_values"][0], processor.video_processor(FRAMES)["pixel_values"][0])


def test_both(processor):
    batch = processor(text=["a red ball", "blue", "a ball"], videos=FRAMES)
    assert set(batch) == set(processor.model_input_names) == {"input_ids", "attention_mask", "pixel_values"}
    assert (len(batch["input_ids"]), len(batch["pixel_values"])) == (3, 1)
    assert torch.equal(batch["pixel_values"], processor(videos=FRAMES)["pixel_values"])
    assert torch.equal(batch["input_ids"], processor(text=["a red ball", "blue", "a ball"])["input_ids"])


def test_captions_are_cut_to_fifty_tokens_and_keep_their_end(processor, tokenizer):
    assert processor.max_length == 50
    batch = processor(text=[LONG_CAPTION, "blue"])
    assert batch["input_ids"].shape == (2, 50)
    whole = tokenizer(LONG_CAPTION)["input_ids"]
    assert len(whole) > 50
    assert batch["input_ids"][0].tolist() == [*whole[:49], tokenizer.eos_token_id]
    assert processor(text=LONG_CAPTION, max_length=7)["input_ids"][0].tolist() == [
        *whole[:6],
        tokenizer.eos_token_id,
    ]
    assert processor(text=LONG_CAPTION, text_kwargs={"max_length": 9})["input_ids"].shape == (1, 9)


def test_captions_are_cut_to_a_lower_limit_of_the_tokenizer(tokenizer):
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.model_max_length = 8
    processor = FPigProcessor(FPigVideoProcessor(), tokenizer)
    assert processor(text=LONG_CAPTION)["input_ids"].shape == (1, 8)
    assert processor(text=LONG_CAPTION, max_length=9)["input_ids"].shape == (1, 9)


def test_arguments_reach_their_part(processor):
    videos_kwargs = {"mode": "train", "num_frames": 2, "generator": torch.Generator().manual_seed(3)}
    batch = processor(videos=make_clip("gif"), videos_kwargs=videos_kwargs)
    expected = processor.video_processor(
        make_clip("gif"), num_frames=2, mode="train", generator=torch.Generator().manual_seed(3)
    )
    assert torch.equal(batch["pixel_values"], expected["pixel_values"])
    padded = processor(text="blue", text_kwargs={"padding": "max_length"})
    assert padded["input_ids"].shape == (1, 50)


def test_transformers_own_arguments_are_taken(processor):
    batch = processor(
        text="blue",
        videos=FRAMES,
        images=None,
        images_kwargs={},
        audio_kwargs={"padding": True},
        common_kwargs={"return_tensors": "np"},
        text_kwargs={},
        videos_kwargs={},
    )
    assert all(isinstance(value, np.ndarray) for value in batch.values())


def test_two_calls_do_not_share_anything(processor):
    common_kwargs, text_kwargs = {"return_tensors": "np"}, {"max_length": 5}
    processor(text="a red ball", common_kwargs=common_kwargs, text_kwargs=text_kwargs)
    assert (common_kwargs, text_kwargs) == ({"return_tensors": "np"}, {"max_length": 5})
    assert isinstance(processor(text=LONG_CAPTION)["input_ids"], torch.Tensor)
    assert processor(text=LONG_CAPTION)["input_ids"].shape == (1, 50)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "`text` and `videos` are both None; pass one of them"),
        ({"text": []}, "`text` is an empty list; pass at least one caption"),
        ({"text": ["blue", 5]}, "`text` holds 5; captions are strings"),
        ({"text": ["blue", None]}, "`text` holds None"),
        ({"videos": []}, "`videos` is an empty list"),
        ({"text": "blue", "video": "a.mp4"}, "`video` is not known"),
        ({"text": "blue", "images": [1]}, "`images` is not known; pass `text` and `videos`"),
        ({"text": "blue", "audio": []}, "`audio` is not known"),
        ({"text": "blue", "num_frames": 3}, "`num_frames` is not known; .*`videos_kwargs={'num_frames': 8}`"),
        ({"text": "blue", "common_kwargs": {"padding": True}}, "`padding` is not known; .*`text_kwargs` or"),
        ({"text": "blue", "max_length": 0}, "`max_length` is 0; it must be an integer of at least 3"),
    ],
)
def test_bad_arguments_are_named(processor, arguments, message):
    with pytest.raises(ValueError, match=message):
        processor(**arguments)


def test_unknown_argument_of_a_part_is_refused(processor):
    with pytest.raises(TypeError, match="num_frame"):
        processor(videos=FRAMES, videos_kwargs={"num_frame": 2})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"video_processor": None}, "`video_processor` is None; a processor needs both"),
        ({"tokenizer": None}, "`tokenizer` is None; a processor needs both"),
        ({"max_length": 2}, "`max_length` is 2; it must be an integer of at least 3"),
        ({"max_length": "50"}, "`max_length` is '50'"),
    ],
)
def test_bad_settings_are_named(tokenizer, settings, message):
    with pytest.raises(ValueError, match=message):
        FPigProcessor(**{"video_processor": FPigVideoProcessor(), "tokenizer": tokenizer} | settings)


def test_round_trip_keeps_every_setting(tokenizer, tmp_path):
    """Each setting differs from its default, so that one that is dropped shows."""
    video_processor = FPigVideoProcessor(
        num_frames=5, size=40, resize_mode="squash", image_mean=(0.1, 0.2, 0.3), image_std=(0.4, 0.5, 0.6)
    )
    processor = FPigProcessor(video_processor, tokenizer, max_length=11)
    processor.save_pretrained(tmp_path / "once")
    FPigProcessor.from_pretrained(tmp_path / "once").save_pretrained(tmp_path / "twice")
    for name in ("once", "twice"):
        loaded = FPigProcessor.from_pretrained(tmp_path / name)
        parts = loaded.video_processor
        assert (loaded.max_length, parts.num_frames, parts.size) == (11, 5, 40)
        assert (parts.resize_mode, parts.image_mean, parts.image_std) == (
            "squash",
            [0.1, 0.2, 0.3],
            [0.4, 0.5, 0.6],
        )
        expected = processor(text=[LONG_CAPTION, "blue"], videos=FRAMES)
        for key, value in loaded(text=[LONG_CAPTION, "blue"], videos=FRAMES).items():
            assert torch.equal(value, expected[key])
    assert FPigProcessor.from_pretrained(tmp_path / "once", max_length=8).max_length == 8


def test_video_processor_alone_makes_the_round_trip(tmp_path):
    FPigVideoProcessor(num_frames=5, size=40).save_pretrained(tmp_path)
    loaded = FPigVideoProcessor.from_pretrained(tmp_path)
    assert (loaded.num_frames, loaded.size) == (5, 40)


LOAD = """
import sys
from importlib.machinery import PathFinder

class WithoutPictures(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] in ("torchvision", "PIL") else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = WithoutPictures
import torch
from transformers import AutoProcessor
processor = AutoProcessor.from_pretrained(sys.argv[1], trust_remote_code=True)
if type(processor).__module__.split(".")[0] != "transformers_modules":
    raise SystemExit(f"not from the folder: {type(processor).__module__}")
if {"processing_fpig", "modeling_fpig", "fpig"} & set(sys.modules):
    raise SystemExit("the project itself was imported")
if "PIL" in sys.modules:
    raise SystemExit("Pillow was imported")
torch.save(dict(processor(text=["a red ball", "blue"], videos=sys.argv[2])), sys.argv[3])
processor.save_pretrained(sys.argv[1] + "_again")
"""


def test_fresh_process_loads_the_folder_alone(tmp_path):
    """Offline, away from the project, without torchvision and Pillow; then once more from what it saved."""
    processor = make_processor()
    processor.save_pretrained(tmp_path / "folder")
    written = set(os.listdir(tmp_path / "folder"))
    assert {
        "processing_fpig.py",
        "video_processing_fpig.py",
        "decoding_fpig.py",
        "frame_folder_fpig.py",
        "frame_table_fpig.py",
        "frames_fpig.py",
        "frame_sampling_fpig.py",
    } <= written
    settings = json.loads((tmp_path / "folder" / "processor_config.json").read_text())
    assert settings["auto_map"]["AutoProcessor"] == "processing_fpig.FPigProcessor"
    (tmp_path / "clip.mp4").write_bytes(make_clip("mp4_short_groups"))
    expected = processor(text=["a red ball", "blue"], videos=tmp_path / "clip.mp4")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    for folder in ("folder", "folder_again"):
        arguments = [tmp_path / folder, tmp_path / "clip.mp4", tmp_path / "batch.pt"]
        done = subprocess.run(
            [sys.executable, "-c", LOAD, *map(str, arguments)],
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        batch = torch.load(tmp_path / "batch.pt", weights_only=True)
        assert set(batch) == set(expected)
        for key, value in expected.items():
            assert torch.equal(batch[key], value)
