"""Conversion of the authors' checkpoints: refusals, the command line, and the folder that it writes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from fpig.conversion import convert_checkpoint, load_authors_checkpoint, main
from modeling_fpig import FPigConfig, FPigModel

TOKEN_TABLE = "generator.clip_reconstructor.embeddings.token_embedding.weight"


def to_authors_layout(model: FPigModel, has_token_table: bool = False) -> dict[str, torch.Tensor]:
    """Names of the authors' checkpoints, built from their module tree and not from our converter."""
    state_dict = {}
    for name, value in model.state_dict().items():
        room, _, rest = name.partition(".")
        if room in ("text_model", "vision_model", "text_projection", "visual_projection", "logit_scale"):
            their_name = f"encoder.clipmodel.{name}"
            their_name = their_name.replace("proxy_embedding", "added_cls")
            their_name = their_name.replace("frame_embedding", "cls_in_frames")
            if their_name.endswith("temporal_embedding"):
                value = value[None]
        elif room == "generator":
            rest = rest.replace("video_projection", "video_mapper")
            rest = rest.replace("position_embedding", "embeddings.position_embedding")
            their_name = f"generator.clip_reconstructor.{rest}"
            if rest in ("begin_embedding", "end_embedding"):
                their_name = f"generator.{'bos' if rest.startswith('b') else 'query'}_tokens"
        else:
            their_name = f"fusioner.cross_attn.{rest}" if "_proj." in rest else f"fusioner.{rest}"
            their_name = their_name.replace("fusioner.linear.", "fusioner.linear_proj.")
        state_dict[their_name] = value.clone()
    text_config = model.config.text_config
    for prefix in ("encoder.clipmodel.text_model", "generator.clip_reconstructor"):
        positions = torch.arange(text_config.max_position_embeddings)[None]
        state_dict[f"{prefix}.embeddings.position_ids"] = positions
    if has_token_table:
        table = torch.randn(text_config.vocab_size, text_config.hidden_size)
        begin = state_dict.pop("generator.bos_tokens", None)
        if begin is not None:
            table[text_config.bos_token_id] = begin
        table[text_config.eos_token_id] = state_dict.pop("generator.query_tokens")
        state_dict[TOKEN_TABLE] = table
    return state_dict


def get_fields(config: FPigConfig) -> dict:
    """The JSON object of a model's configuration."""
    return json.loads(config.to_json_string(use_diff=False))


@pytest.fixture
def checkpoint(tiny_model, tmp_path):
    """A tiny checkpoint in the authors' layout and the fields of its configuration."""
    path = tmp_path / "authors.safetensors"
    save_file(to_authors_layout(tiny_model), path)
    return path, get_fields(tiny_model.config)


@pytest.mark.parametrize("has_token_table", [False, True])
@pytest.mark.parametrize("overrides", [{}, {"generator_begin_token": False}])
def test_both_layouts(make_tiny_model, tmp_path, has_token_table, overrides):
    overrides = overrides | ({"generator_projection": False, "projection_dim": 64} if has_token_table else {})
    model = make_tiny_model(**overrides)
    state_dict = to_authors_layout(model, has_token_table)
    if overrides.get("generator_begin_token") is False and not has_token_table:
        state_dict["generator.bos_tokens"] = torch.zeros(64)  # stored whether it is used or not
    save_file(state_dict, tmp_path / "authors.safetensors")
    fields = get_fields(model.config)
    fields.pop("generator_projection")  # read off the checkpoint
    converted = convert_checkpoint(tmp_path / "authors.safetensors", fields)
    assert converted.config.generator_projection is not has_token_table
    assert converted.state_dict().keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        assert torch.equal(converted.state_dict()[name], value), name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder.clipmodel.pooler.weight": 3}, r"unknown keys: encoder.clipmodel.pooler.weight$"),
        ({"optimizer.step": 3, "a.b": 1}, r"unknown keys: a.b, optimizer.step$"),
        ({"text_projection.weight": 3}, r"unknown keys: text_projection.weight$"),
        (
            {"generator.query_tokens": None},
            r"lacks keys: generator.query_tokens \(our `generator.end_embedding`\)$",
        ),
        ({"generator.bos_tokens": None}, r"lacks keys: generator.bos_tokens \(our "),
        ({"encoder.clipmodel.logit_scale": None}, r"lacks keys: encoder.clipmodel.logit_scale \(our "),
        ({"fusioner.layer_norm2.bias": None}, r"lacks keys: .* or fusioner.layer_norm2.bias \(our "),
        ({"fusioner.layer_norm2.bias": 41}, r"fusioner.layer_norm2.bias is \(41,\), the config says \(40,\)"),
        ({TOKEN_TABLE: (99, 64)}, r"has `generator.bos_tokens` beside `generator.clip_reconstructor"),
        ({TOKEN_TABLE: (98, 64)}, r"has shape \(98, 64\); it needs a row for token 98"),
    ],
)
def test_unfitting_checkpoints_are_refused_by_key(tiny_model, tmp_path, change, message):
    state_dict = to_authors_layout(tiny_model)
    for name, size in change.items():
        state_dict.pop(name, None)
        if size is not None:
            state_dict[name] = torch.zeros(size)
    save_file(state_dict, tmp_path / "authors.safetensors")
    with pytest.raises(ValueError, match=message):
        convert_checkpoint(tmp_path / "authors.safetensors", get_fields(tiny_model.config))


def test_wrong_configuration_is_refused_by_key(checkpoint):
    path, fields = checkpoint
    with pytest.raises(ValueError, match=r"temporal_embedding is \(4, 48\), the config says \(6, 48\)"):
        convert_checkpoint(path, fields | {"num_frames": 6})
    fields["vision_config"]["num_hidden_layers"] = 3
    with pytest.raises(
        ValueError, match=r"lacks keys: .*encoder.clipmodel.vision_model.encoder.layers.2.mlp.fc1.weight"
    ):
        convert_checkpoint(path, fields)
    fields["vision_config"]["num_hidden_layers"] = 1
    with pytest.raises(ValueError, match=r"unknown keys: encoder.clipmodel.vision_model.encoder.layers.1"):
        convert_checkpoint(path, fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_fames": 4}, r"`config` has the unknown field `num_fames`; the fields of FPigConfig"),
        ({"text_config": {"width": 4}}, r"`text_config` has the unknown field `width`.* CLIPTextConfig"),
        (
            {"vision_config": {"width": 4}},
            r"`vision_config` has the unknown field `width`.*CLIPVision",
        ),
        ({"num_frames": 0}, r"^`num_frames` is 0; it must be"),
        ({"num_frames": "four"}, r"num_frames.*expected int, got str"),
        ({"text_config": 4}, r"text_config.*expected dict, got int"),
    ],
)
def test_bad_fields_are_refused(checkpoint, fields, message):
    with pytest.raises(ValueError, match=message):
        convert_checkpoint(checkpoint[0], checkpoint[1] | fields)


class Payload:
    """What a malicious checkpoint hides: code that runs when the file is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return (os.mkdir, (str(self.trace),))


@pytest.mark.parametrize("is_zip", [True, False])
def test_pickled_code_is_refused_and_does_not_run(tmp_path, is_zip):
    trace, path = tmp_path / "payload_ran", tmp_path / "malicious.pt"
    torch.save({"weight": Payload(trace)}, path, _use_new_zipfile_serialization=is_zip)
    with pytest.raises(ValueError, match=r"malicious.pt'; it does not load with `weights_only=True`"):
        load_authors_checkpoint(path)
    assert not trace.exists()
    torch.load(path, weights_only=False)  # the payload is real
    assert trace.exists()


@pytest.mark.parametrize(
    ("file_name", "content", "message"),
    [
        ("missing.pt", None, r"missing.pt'; there is no such file"),
        ("weights.bin", b"x", r"weights.bin'; it must end in .safetensors, .pt or .pth"),
        ("garbage.pt", b"garbage", r"garbage.pt'; it does not load with `weights_only=True`"),
        ("empty.pth", b"", r"empty.pth'; it does not load with `weights_only=True`"),
        ("garbage.safetensors", b"garbage", r"garbage.safetensors'; it is not a safetensors file"),
        ("empty.safetensors", b"", r"empty.safetensors'; it is not a safetensors file"),
        ("nested.pt", {"model": {"a": torch.zeros(1)}}, r"nested.pt'; it must hold one flat dict of tensors"),
        ("list.pt", [torch.zeros(1)], r"list.pt'; it must hold one flat dict of tensors"),
        ("numbers.pt", {1: torch.zeros(1)}, r"numbers.pt'; it must hold one flat dict of tensors"),
    ],
)
def test_other_files_are_refused(tmp_path, file_name, content, message):
    if isinstance(content, bytes):
        (tmp_path / file_name).write_bytes(content)
    elif content is not None:
        torch.save(content, tmp_path / file_name)
    with pytest.raises(ValueError, match=message):
        load_authors_checkpoint(tmp_path / file_name)


def run_python(*arguments, cwd, **environment) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


LOAD_ELSEWHERE = """
import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in str(finder).lower()]
sys.path[:] = [path for path in sys.path if path not in PROJECT_PATHS]
for name in ("modeling_fpig", "processing_fpig", "fpig"):
    try:
        __import__(name)
    except ImportError:
        continue
    raise SystemExit(name + " must not be importable here")
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel
model = AutoModel.from_pretrained(sys.argv[1], trust_remote_code=True)
assert type(model).__module__.startswith("transformers_modules."), type(model).__module__
inputs = load_file(sys.argv[2])
with torch.no_grad():
    output = model(**inputs)
save_file({name: output[name].contiguous() for name in ("text_embeds", "video_embeds")}, sys.argv[3])
model.save_pretrained(sys.argv[4])
"""


def test_command_line_writes_a_folder_that_loads_anywhere(checkpoint, tiny_model, tiny_batch, tmp_path):
    """Two fresh processes: one converts, one knows nothing of this project and gives bit-equal embeddings."""
    path, fields = checkpoint
    (tmp_path / "config.json").write_text(json.dumps(fields))
    folder, elsewhere = tmp_path / "converted", tmp_path / "elsewhere"
    elsewhere.mkdir()
    arguments = ("-m", "fpig.conversion", path, folder, "--config", tmp_path / "config.json")
    done = run_python(*arguments, cwd=elsewhere)
    assert done.returncode == 0, done.stderr
    code = {"configuration_fpig.py", "modeling_fpig.py", "video_fpig.py", "text_fpig.py", "loss_fpig.py"}
    assert code | {"config.json", "model.safetensors"} <= {file.name for file in folder.iterdir()}

    save_file(tiny_batch, elsewhere / "inputs.safetensors")
    root = Path(__file__).parents[1]
    script = f"PROJECT_PATHS = {[str(root), str(root / 'metrics')]!r}\n" + LOAD_ELSEWHERE
    (elsewhere / "load.py").write_text(script)
    outputs = elsewhere / "outputs.safetensors"
    loading = ("-P", "load.py", folder, "inputs.safetensors", outputs, tmp_path / "saved_again")
    done = run_python(*loading, cwd=elsewhere, HF_HOME=str(tmp_path / "hf"), PYTHONPATH="")
    assert done.returncode == 0, done.stderr
    with torch.no_grad():
        expected = tiny_model(**tiny_batch)
    for name, value in load_file(outputs).items():
        assert torch.equal(value, expected[name]), name
    assert code <= {file.name for file in (tmp_path / "saved_again").iterdir()}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"video_pooling": "max"}', r"^error: `video_pooling` is 'max'; it must be one of"),
        ("{", r"^error: `--config` .*bad.json is not JSON"),
        ("[]", r"^error: `--config` .*bad.json must hold one JSON object of FPigConfig fields"),
    ],
)
def test_command_line_says_what_is_wrong_in_one_line(checkpoint, tmp_path, content, message):
    (tmp_path / "bad.json").write_text(content)
    with pytest.raises(SystemExit, match=message) as exit_info:
        main([str(checkpoint[0]), str(tmp_path / "out"), "--config", str(tmp_path / "bad.json")])
    assert "\n" not in str(exit_info.value)
    assert not (tmp_path / "out").exists()


def test_a_file_is_no_output_folder(checkpoint):
    with pytest.raises(SystemExit, match=r"^error: `OUT_DIR` is '.*authors.safetensors', which is a file"):
        main([str(checkpoint[0]), str(checkpoint[0])])


def test_full_size_b32_by_default(tmp_path):
    """Without a configuration: ViT-B/32 with 12 frames, from a half-precision checkpoint."""
    with torch.device("meta"):
        model = FPigModel(FPigConfig())
    model.to_empty(device="cpu")
    with torch.no_grad():
        for index, parameter in enumerate(model.parameters()):
            parameter.fill_(index / 256)  # exact in float16
    path = tmp_path / "b32.pt"
    torch.save({name: value.half() for name, value in to_authors_layout(model).items()}, path)
    converted = convert_checkpoint(path)
    path.unlink()
    assert converted.dtype == torch.float32
    assert 190e6 < converted.num_parameters() < 192e6  # CLIP's 151 million and the generator
    for (name, value), expected in zip(
        converted.named_parameters(), model.state_dict().values(), strict=True
    ):
        assert torch.equal(value, expected), name
