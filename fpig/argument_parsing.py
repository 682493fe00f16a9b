"""How a YAML file and the command line fill the settings of a training run."""

from dataclasses import fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import yaml
from transformers import HfArgumentParser

from fpig.training_args import DataArguments, FPigTrainingArguments, ModelArguments


def parse_arguments(
    arguments: list[str], default_config: Path
) -> tuple[ModelArguments, DataArguments, FPigTrainingArguments]:
    """
    Fills the settings: the fields' defaults, then the YAML file, then the command line.

    Args:
        arguments: `[CONFIG.yaml] [--key value …]`.
        default_config: the YAML file used when none is named.

    Raises:
        SystemExit: an unknown key or a bad value, with one line that says which.
    """
    classes = (ModelArguments, DataArguments, FPigTrainingArguments)
    parser = HfArgumentParser(
        classes,
        usage="train.py [CONFIG.yaml] [--key value ...]",
        description="Train F-Pig; see configs/.",
        allow_abbrev=False,
    )
    has_config = bool(arguments) and not arguments[0].startswith("-")
    config_path, rest = (Path(arguments[0]), arguments[1:]) if has_config else (default_config, arguments)
    try:
        parser.set_defaults(**read_config(config_path, classes))
        model_args, data_args, training_args, unknown = parser.parse_args_into_dataclasses(
            rest, return_remaining_strings=True, look_for_args_file=False
        )
    except (ValueError, TypeError) as error:
        parser.error(" ".join(str(error).split()))  # some messages span several lines
    if unknown:
        parser.error(f"unknown arguments: {' '.join(unknown)}; `train.py --help` lists the known ones")
    return model_args, data_args, training_args


def read_config(path: Path, classes: tuple[type, ...]) -> dict:
    """
    Reads a YAML file whose keys are fields of `classes`.

    Raises:
        ValueError: no such file, no YAML, not a mapping, an unknown key, or a value of a wrong kind.
    """
    if not path.is_file():
        raise ValueError(
            f"`{path}` is no file; the first argument is a YAML file such as configs/shapes.yaml"
        )
    try:
        config = yaml.safe_load(path.read_text()) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"`{path}` is no YAML: {error}") from error
    if not isinstance(config, dict):
        raise ValueError(f"`{path}` holds {type(config).__name__}; it must hold `key: value` lines")
    hints = {
        item.name: get_type_hints(cls)[item.name] for cls in classes for item in fields(cls) if item.init
    }
    unknown = sorted(str(key) for key in config if key not in hints)
    if unknown:
        raise ValueError(
            f"`{path}` has the unknown key `{unknown[0]}`; `train.py --help` lists the known ones"
        )
    return {key: read_value(key, value, hints[key]) for key, value in config.items()}


def read_value(key: str, value: Any, hint: Any) -> Any:
    """
    A value of the YAML file as argparse takes it for a default.

    Raises:
        ValueError: nothing, a list or a mapping where the field's type `hint` has none.
    """
    if isinstance(value, NoneType | list | dict):
        kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
        if type(value) not in {get_origin(kind) or kind for kind in kinds}:
            raise ValueError(f"`{key}` is {value!r} in the YAML file; give it one value or leave it out")
        return value
    # YAML reads 1e-6 as a string and argparse converts strings alone: what both understand is the string.
    return str(value)


__all__ = ["parse_arguments"]
