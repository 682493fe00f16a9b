"""
Converts checkpoints of the authors' research code into a folder that `AutoModel` loads.

    fpig convert CHECKPOINT OUT_DIR --config CONFIG.json
"""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from modeling_fpig import FPigConfig, FPigModel

# The authors' module names → ours, longest first; below these prefixes the names are the same.
PREFIXES = {
    "encoder.clipmodel.vision_model.embeddings.added_cls": "vision_model.embeddings.proxy_embedding",
    "encoder.clipmodel.vision_model.embeddings.cls_in_frames": "vision_model.embeddings.frame_embedding",
    "encoder.clipmodel.": "",
    "generator.clip_reconstructor.video_mapper.": "generator.video_projection.",
    "generator.clip_reconstructor.embeddings.position_embedding.": "generator.position_embedding.",
    "generator.clip_reconstructor.": "generator.",
    "generator.bos_tokens": "generator.begin_embedding",
    "generator.query_tokens": "generator.end_embedding",
    "fusioner.cross_attn.": "interaction.",
    "fusioner.linear_proj.": "interaction.linear.",
    "fusioner.": "interaction.",
}
GENERATOR_TOKEN_TABLE = "generator.clip_reconstructor.embeddings.token_embedding.weight"
GENERATOR_PROJECTION = "generator.clip_reconstructor.text_projection.weight"


def load_authors_checkpoint(path: str | Path) -> "dict[str, torch.Tensor]":
    """
    Reads a state dict from `.safetensors`, or from `.pt` and `.pth` with `weights_only=True`: never a pickle.

    Raises:
        ValueError: another suffix, or a file that is not a flat dict of tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"`checkpoint` is {str(path)!r}; there is no such file")
    if path.suffix == ".safetensors":
        return load_safetensors(path)
    if path.suffix not in (".pt", ".pth"):
        raise ValueError(f"`checkpoint` is {str(path)!r}; it must end in .safetensors, .pt or .pth")
    import torch

    try:
        state_dict = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"`checkpoint` is {str(path)!r}; it does not load with `weights_only=True` "
            f"({type(error).__name__}): save its state dict alone, `torch.save(model.state_dict(), path)`"
        ) from error
    is_state_dict = isinstance(state_dict, dict) and all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in state_dict.items()
    )
    if not is_state_dict:
        raise ValueError(
            f"`checkpoint` is {str(path)!r}; it must hold one flat dict of tensors, a state dict"
        )
    return state_dict


def load_safetensors(path: Path) -> "dict[str, torch.Tensor]":
    """Reads a `.safetensors` file; raises a `ValueError` when it is none."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"`checkpoint` is {str(path)!r}; it is not a safetensors file: {error}") from error


def convert_state_dict(
    state_dict: "dict[str, torch.Tensor]", config: "FPigConfig"
) -> "dict[str, torch.Tensor]":
    """
    Renames the authors' keys to ours, in both published layouts.

    In one layout the generator's begin and end slots are parameters; in the other they are the begin- and
    end-of-text rows of the generator's own token table.

    Raises:
        ValueError: naming every key that is unknown, missing or of another shape than `config` says.
    """
    unknown = sorted(name for name in state_dict if not name.startswith(tuple(PREFIXES)))
    if unknown:
        raise ValueError(f"`checkpoint` has unknown keys: {', '.join(unknown)}")
    tensors = {name: value for name, value in state_dict.items() if not name.endswith(".position_ids")}
    converted = {}
    table = tensors.pop(GENERATOR_TOKEN_TABLE, None)
    if table is not None:
        check_slot_rows(table, config)
        converted["generator.begin_embedding"] = table[config.text_config.bos_token_id]
        converted["generator.end_embedding"] = table[config.text_config.eos_token_id]
    source_names = {name: name for name in converted}
    for name, value in tensors.items():
        new_name = rename_key(name)
        if new_name in converted:
            raise ValueError(
                f"`checkpoint` has `{name}` beside `{GENERATOR_TOKEN_TABLE}`; the two key layouts exclude "
                "each other: delete the one that the model was not trained with"
            )
        if new_name == "vision_model.embeddings.temporal_embedding" and value.ndim == 3:
            value = value.squeeze(0)  # [1, T, Dv] → [T, Dv]
        converted[new_name], source_names[new_name] = value, name
    if not config.generator_begin_token:
        converted.pop("generator.begin_embedding", None)  # stored by the authors' code whether used or not
    check_against_model(converted, source_names, config)
    return converted


def rename_key(name: str) -> str:
    """The authors' parameter name, which begins with one of `PREFIXES`, in our words."""
    prefix = next(prefix for prefix in PREFIXES if name.startswith(prefix))
    return PREFIXES[prefix] + name.removeprefix(prefix)


def name_sources(name: str) -> str:
    """The authors' names of what becomes our parameter `name`."""
    longest = max((ours for ours in PREFIXES.values() if name.startswith(ours)), key=len)
    rest = name.removeprefix(longest)
    return " or ".join(theirs + rest for theirs, ours in PREFIXES.items() if ours == longest)


def check_slot_rows(table: "torch.Tensor", config: "FPigConfig") -> None:
    """Raises a `ValueError` when the generator's token table has no row for a slot's token."""
    last_id = max(config.text_config.bos_token_id, config.text_config.eos_token_id)
    if table.ndim != 2 or last_id >= len(table):
        raise ValueError(
            f"`{GENERATOR_TOKEN_TABLE}` has shape {tuple(table.shape)}; it needs a row for token {last_id}: "
            "set `bos_token_id` and `eos_token_id` in the config's `text_config`"
        )


def check_against_model(
    converted: "dict[str, torch.Tensor]", source_names: dict[str, str], config: "FPigConfig"
) -> None:
    """Raises a `ValueError` that names every key and shape which does not fit the model of `config`."""
    import torch

    from modeling_fpig import FPigModel

    with torch.device("meta"):
        expected = FPigModel(config).state_dict()
    unknown = sorted(source_names[name] for name in converted.keys() - expected.keys())
    missing = sorted(expected.keys() - converted.keys())
    if unknown:
        raise ValueError(f"`checkpoint` has unknown keys: {', '.join(unknown)}")
    if missing:
        names = [f"{name_sources(name)} (our `{name}`)" for name in missing]
        raise ValueError(f"`checkpoint` lacks keys: {', '.join(names)}")
    shapes = [
        f"{source_names[name]} is {tuple(value.shape)}, the config says {tuple(expected[name].shape)}"
        for name, value in sorted(converted.items())
        if value.shape != expected[name].shape
    ]
    if shapes:
        raise ValueError(f"`config` does not fit the checkpoint: {'; '.join(shapes)}")


def convert_checkpoint(checkpoint: str | Path, config_fields: dict[str, Any] | None = None) -> "FPigModel":
    """
    Builds the model of an authors' checkpoint.

    Args:
        checkpoint: `.safetensors` or `.pt`.
        config_fields: fields of `FPigConfig`, each optional; the default is B/32. Whether the generator has a
            projection is read off the checkpoint unless it is given here; whether its begin slot was used
            can't be, so `generator_begin_token` says it.

    Raises:
        ValueError: a field is unknown or bad, or the checkpoint does not fit.
    """
    from modeling_fpig import FPigModel

    state_dict = load_authors_checkpoint(checkpoint)
    config = build_config(
        {"generator_projection": GENERATOR_PROJECTION in state_dict} | (config_fields or {})
    )
    model = FPigModel(config)
    model.load_state_dict(convert_state_dict(state_dict, config))
    return model


def build_config(config_fields: dict[str, Any]) -> "FPigConfig":
    """Builds the configuration; raises a `ValueError` when a field is unknown, also in a tower's, or bad."""
    from huggingface_hub.errors import StrictDataclassError
    from transformers import CLIPTextConfig, CLIPVisionConfig

    from modeling_fpig import FPigConfig

    parts = {"config": config_fields}
    parts |= {name: config_fields.get(name) for name in ("text_config", "vision_config")}
    classes = {"config": FPigConfig, "text_config": CLIPTextConfig, "vision_config": CLIPVisionConfig}
    for name, fields in parts.items():
        if not isinstance(fields, dict):
            continue
        unknown = sorted(set(fields) - set(classes[name]().to_dict()) - {"architectures", "auto_map"})
        if unknown:
            raise ValueError(
                f"`{name}` has the unknown field `{unknown[0]}`; the fields of {classes[name].__name__} are "
                "allowed"
            )
    try:
        return FPigConfig(**config_fields)
    except StrictDataclassError as error:
        raise ValueError(str(error).split("Error: ", 1)[-1]) from error


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(prog="fpig convert", description=__doc__.split("\n\n")[0])
    parser.add_argument("checkpoint", type=Path, help="the authors' weights, .safetensors or .pt")
    parser.add_argument("out_dir", type=Path, help="folder to write: weights, config and code files")
    parser.add_argument("--config", type=Path, help="JSON file with FPigConfig fields (default: B/32)")
    return parser.parse_args(arguments)


def read_config_file(path: Path | None) -> dict[str, Any]:
    """The fields in a JSON file, none without a file; raises a `ValueError` when it is no JSON object."""
    if path is None:
        return {}
    try:
        fields = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"`--config` {path} is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise ValueError(f"`--config` {path} must hold one JSON object of FPigConfig fields")
    return fields


def main(arguments: list[str] | None = None) -> None:
    """Runs the conversion; bad input ends in one line on stderr."""
    options = parse_arguments(arguments)
    try:
        if options.out_dir.exists() and not options.out_dir.is_dir():  # transformers would only log it
            raise ValueError(f"`OUT_DIR` is {str(options.out_dir)!r}, which is a file; name a folder")
        model = convert_checkpoint(options.checkpoint, read_config_file(options.config))
    except (OSError, ValueError) as error:
        raise SystemExit(f"error: {error}") from error
    model.save_pretrained(options.out_dir)


if __name__ == "__main__":
    main()
