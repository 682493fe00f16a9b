"""The ONNX files compute what torch does, for every size of batch, caption and video."""

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import fill_parameters, make_config
from toys import CAPTIONS, make_model, write_clip

from fpig import export
from fpig.export import export_encoders
from modeling_fpig import FPigModel
from modeling_fpig.configuration_fpig import VIDEO_POOLINGS
from modeling_fpig.pseudo_query_fpig import select_informative_tokens

ROOT = Path(__file__).parents[1]
ATOL = 1e-5

# Run where the project can't be imported: all it has is the folder.
EMBED_ALONE = """
import sys
import numpy as np
import onnxruntime
from transformers import AutoProcessor

folder, output, *videos = sys.argv[1:]
processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
encode_text = onnxruntime.InferenceSession(f"{folder}/text_encoder.onnx")
encode_video = onnxruntime.InferenceSession(f"{folder}/video_encoder.onnx")
captions = ["a red circle moves left", "two balls rise", "a green star grows " + "again " * 30]
(text_embeds,) = encode_text.run(["text_embeds"], dict(processor(text=captions, return_tensors="np")))
(video_embeds,) = encode_video.run(["video_embeds"], dict(processor(videos=videos, return_tensors="np")))
np.savez(output, text_embeds=text_embeds, video_embeds=video_embeds)
assert not {"fpig", "modeling_fpig", "processing_fpig", "onnx", "onnxscript"} & set(sys.modules)
"""


def make_shallow_model():
    """One layer in every tower: a trace takes seconds for each."""
    layers = {"num_hidden_layers": 1}
    model = FPigModel(make_config(text_config=layers, vision_config=layers)).eval()
    fill_parameters(model)
    return model


def start_session(model, file, folder):
    export.write_encoder(model, file, folder / file.name)
    return onnxruntime.InferenceSession(folder / file.name)


def run_session(session, **inputs):
    (embeds,) = session.run(None, {name: np.asarray(value) for name, value in inputs.items()})
    return torch.from_numpy(embeds)


def assert_equal_embeds(embeds, expected):
    torch.testing.assert_close(embeds, expected, rtol=0, atol=ATOL)
    torch.testing.assert_close(embeds.norm(dim=-1), torch.ones(len(embeds)), rtol=0, atol=ATOL)


def list_axes(values):
    return {value.name: (value.type, value.shape) for value in values}


@pytest.mark.parametrize("pooling", VIDEO_POOLINGS)
def test_video_encoder_is_the_models(processor, tmp_path, pooling):
    """Of any number of videos and frames: fewer and more than the model was made for, up to the most."""
    # The generator keeps two layers: in one alone the end slot sees all, with the causal mask and without.
    model = make_model(processor, video_pooling=pooling, vision_config={"num_hidden_layers": 1})
    session = start_session(model, export.plan_video_encoder(model.config), tmp_path)
    frames = ["videos", "frames", 3, 24, 24]
    assert list_axes(session.get_inputs()) == {"pixel_values": ("tensor(float)", frames)}
    assert list_axes(session.get_outputs()) == {"video_embeds": ("tensor(float)", ["videos", 40])}
    generator = torch.Generator().manual_seed(2)
    for num_videos, num_frames in ((1, 4), (3, 4), (2, 1), (3, 3), (1, 7), (2, 20)):
        pixel_values = torch.randn(num_videos, num_frames, 3, 24, 24, generator=generator)
        with torch.no_grad():
            expected = model.encode_video(pixel_values)
        assert_equal_embeds(run_session(session, pixel_values=pixel_values), expected)
    with pytest.raises(Exception, match="Got invalid dimensions for input: pixel_values"):
        run_session(session, pixel_values=torch.zeros(1, 4, 3, 32, 32))


def test_text_encoder_is_the_models(processor, model, tmp_path):
    session = start_session(model, export.plan_text_encoder(model.config), tmp_path)
    axes = ("tensor(int64)", ["captions", "tokens"])
    assert list_axes(session.get_inputs()) == {"input_ids": axes, "attention_mask": axes}
    assert list_axes(session.get_outputs()) == {"text_embeds": ("tensor(float)", ["captions", 40])}
    long_caption = "a red circle moves left again " * 5
    batches = [processor(text=text) for text in (CAPTIONS[0], [*CAPTIONS, "a"], [long_caption, "a"], "")]
    assert [len(batch["input_ids"]) for batch in batches] == [1, 5, 2, 1]
    assert batches[2]["input_ids"].shape[1] == 20  # cut
    begin, end = model.config.text_config.bos_token_id, model.config.text_config.eos_token_id
    padded_left = torch.tensor([[5, 5, 5, begin, 7, end], [begin, 9, 8, 7, 6, end]])
    batches.append({"input_ids": padded_left, "attention_mask": (padded_left != 5).long()})
    # The first of several end-of-text tokens counts, even where none of them is padding.
    several_ends = torch.tensor([[begin, 7, end, 8, end, end]])
    batches.append({"input_ids": several_ends, "attention_mask": torch.ones_like(several_ends)})
    only_end = torch.tensor([[end]] * 3)
    batches.append({"input_ids": only_end, "attention_mask": torch.ones_like(only_end)})
    # A mask that hides words in the middle.
    batches.append({"input_ids": padded_left[1:], "attention_mask": torch.tensor([[1, 1, 0, 0, 1, 1]])})
    for batch in batches:
        with torch.no_grad():
            expected = model.encode_text(**batch)
        assert_equal_embeds(run_session(session, **batch), expected)


class Selection(torch.nn.Module):
    def forward(self, class_token_attention):
        return select_informative_tokens(class_token_attention, 4, 3, 16)


def test_equal_scores_are_selected_in_order_of_position(tmp_path):
    """As in torch, and exactly: four values for 80 patches, then one for all."""
    shapes = {"class_token_attention": {0: torch.export.Dim("videos")}}
    program = torch.export.export(Selection(), (torch.rand(2, 6, 83),), dynamic_shapes=shapes, strict=True)
    path, table = tmp_path / "selection.onnx", export.make_translations()
    with export.quiet_exporter():
        torch.onnx.export(program, f=path, dynamo=True, custom_translation_table=table, verbose=False)
    session = onnxruntime.InferenceSession(path)
    generator = torch.Generator().manual_seed(3)
    for num_values in (4, 2, 1):
        scores = torch.randint(num_values, (5, 6, 83), generator=generator) / 8
        scores[:, 1:] = 0  # otherwise the maximum over heads is nearly always the same
        found = run_session(session, class_token_attention=scores)
        assert torch.equal(found, select_informative_tokens(scores, 4, 3, 16))
    assert found[0].tolist() == [*range(4, 20)]


def test_equal_frames_give_the_models_embedding(tmp_path):
    """With the temporal table at its start, zero, the patches of equal frames tie."""
    model = make_shallow_model()
    torch.nn.init.zeros_(model.vision_model.embeddings.temporal_embedding)
    session = start_session(model, export.plan_video_encoder(model.config), tmp_path)
    generator = torch.Generator().manual_seed(4)
    for num_frames in (2, 4, 6):
        frame = torch.randn(3, 1, 3, 24, 24, generator=generator)
        pixel_values = frame.expand(-1, num_frames, -1, -1, -1)
        with torch.no_grad():
            features = model.get_video_features(pixel_values, return_dict=True)
            expected = model.encode_video(pixel_values)
        patches = (features.selected_token_indices - 3) % 10
        assert all(len(set(row.tolist())) < 5 for row in patches)  # the same patch of several frames
        assert_equal_embeds(run_session(session, pixel_values=pixel_values), expected)


def run_command(*arguments, home):
    command = [sys.executable, "-m", "fpig", "export", *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HOME": str(home)}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)


def test_command_writes_a_folder_that_works_alone(release, model, processor, tmp_path):
    out_dir, home = tmp_path / "deep" / "onnx", tmp_path / "home"
    done = run_command(release, out_dir, home=home)
    assert done.returncode == 0, done.stderr
    lines = [line.rsplit(" at most ") for line in done.stdout.splitlines()]
    assert [line[0] for line in lines] == [f"{out_dir}/text_encoder.onnx:", f"{out_dir}/video_encoder.onnx:"]
    assert all(float(line[1].removesuffix(" from torch")) < ATOL for line in lines)
    assert "torchvision" not in done.stderr
    assert "torch/onnx" not in done.stderr
    assert [path.name for path in out_dir.parent.iterdir()] == ["onnx"]
    for path in out_dir.iterdir():  # somebody else will read it
        content = path.read_bytes()
        assert not [word for word in (ROOT, tmp_path, release) if str(word).encode() in content], path
    for name in ("text_encoder.onnx", "video_encoder.onnx"):
        onnx.checker.check_model(out_dir / name, full_check=True)

    videos = [str(write_clip(tmp_path / f"{seed}.mp4", seed, num_frames=5 + seed)) for seed in range(3)]
    script = tmp_path / "embed_alone.py"
    script.write_text(EMBED_ALONE)
    command = [sys.executable, "-P", script, out_dir, tmp_path / "embeds.npz", *videos]
    environment = os.environ | {"HF_HOME": str(home)}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    embeds = np.load(tmp_path / "embeds.npz")
    captions = [CAPTIONS[0], CAPTIONS[3], CAPTIONS[2] + " again" * 30]
    with torch.no_grad():
        text_embeds = model.encode_text(**processor(text=captions))
        video_embeds = model.encode_video(**processor(videos=videos))
    assert_equal_embeds(torch.from_numpy(embeds["text_embeds"]), text_embeds)
    assert_equal_embeds(torch.from_numpy(embeds["video_embeds"]), video_embeds)


def damage(path):
    """One weight a little off."""
    program = onnx.load(path)
    tensor = next(t for t in program.graph.initializer if t.name.endswith("text_projection.weight"))
    values = onnx.numpy_helper.to_array(tensor).copy()
    values[3, 5] += 0.05
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    onnx.save(program, path)


def test_a_file_that_differs_from_torch_is_refused(processor, tmp_path, monkeypatch):
    model = make_shallow_model()
    write_encoder = export.write_encoder

    def write_damaged_encoder(model, file, path):
        write_encoder(model, file, path)
        damage(path)

    monkeypatch.setattr(export, "write_encoder", write_damaged_encoder)
    message = r"`text_encoder.onnx` gives embeddings that differ by .* at most 1e-04 is allowed.*: try other"
    with pytest.raises(ValueError, match=message):
        export_encoders(model, processor, tmp_path / "onnx")
    assert list(tmp_path.iterdir()) == []


def test_nan_is_a_difference(model, processor, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "write_encoder", lambda model, file, path: None)
    monkeypatch.setattr(export, "measure_difference", lambda model, file, path: float("nan"))
    with pytest.raises(ValueError, match="differ by nan from torch's"):
        export_encoders(model, processor, tmp_path / "onnx")


def test_code_that_cant_be_translated_is_named(processor, tmp_path, monkeypatch):
    def sort(features):
        return torch.take_along_dim(features, features.argsort(-1), -1)

    model = make_shallow_model()
    monkeypatch.setattr(model.text_projection, "forward", sort)
    message = (
        r"`text_encoder.onnx` can't be made from this model's code \(Constraints violated .*\); write the"
    )
    with pytest.raises(ValueError, match=message):
        export_encoders(model, processor, tmp_path / "onnx")
    assert list(tmp_path.iterdir()) == []


def test_the_model_stays_as_it_is(processor, tmp_path, monkeypatch):
    """Exported are copies in float32, in evaluation mode."""
    model = make_model(processor).bfloat16().train()
    modes = []

    def write(exported, file, path):
        modes.append((exported.training, exported.dtype, exported.device.type))
        raise OSError("no space left on device")

    monkeypatch.setattr(export, "write_encoder", write)
    with pytest.raises(OSError, match="no space left"):
        export_encoders(model, processor, tmp_path / "onnx")
    assert modes == [(False, torch.float32, "cpu")]
    assert (model.training, model.dtype) == (True, torch.bfloat16)
    with export.free_frames(model):
        pass
    assert "get_temporal_embedding" not in vars(model.vision_model.embeddings)
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_not_overwritten(model, processor, release, tmp_path):
    (tmp_path / "onnx").write_text("mine")
    with pytest.raises(FileExistsError, match="onnx` is there already; remove it or choose another name"):
        export_encoders(model, processor, tmp_path / "onnx")
    with pytest.raises(SystemExit, match="error: `.*onnx` is there already"):
        export.main([str(release), str(tmp_path / "onnx")])
    assert (tmp_path / "onnx").read_text() == "mine"


def test_bad_models_are_errors(tmp_path):
    with pytest.raises(
        SystemExit, match="error: `nowhere` is not a folder, and a repository .* `owner/name`"
    ):
        export.main(["nowhere", str(tmp_path / "onnx")])
    from transformers import CLIPTextConfig, CLIPTextModel

    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    CLIPTextModel(CLIPTextConfig(vocab_size=9, **sizes)).save_pretrained(tmp_path / "clip")
    with pytest.raises(SystemExit, match="clip` holds a model of type 'clip_text_model'; pass a trained one"):
        export.main([str(tmp_path / "clip"), str(tmp_path / "onnx")])
    assert not (tmp_path / "onnx").exists()


@pytest.mark.parametrize("package", ["onnx", "onnxruntime", "onnxscript"])
def test_a_missing_package_is_named_first(tmp_path, monkeypatch, package):
    def find_spec(name):
        return None if name == package else importlib.util.find_spec(name)

    monkeypatch.setattr(export, "find_spec", find_spec)
    message = f"`{package}` is not installed and is needed for ONNX files; pip install 'fpig\\[onnx\\]'"
    with pytest.raises(ModuleNotFoundError, match=message):
        export_encoders(None, None, tmp_path / "onnx")
    with pytest.raises(SystemExit, match=message):
        export.main(["nowhere", str(tmp_path / "onnx")])


def test_help_is_quick(tmp_path):
    start = time.monotonic()
    done = run_command("--help", home=tmp_path)
    assert done.returncode == 0
    assert "OUT_DIR" in done.stdout
    assert time.monotonic() - start < 3
