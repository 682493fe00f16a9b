"""The settings of a run as it keeps and publishes them, and where it keeps them."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml
from transformers import TrainingArguments

# What a run that goes on may change.
FREE_SETTINGS = (
    *("output_dir", "logging_steps", "logging_first_step", "disable_tqdm", "report_to", "run_name"),
    *("log_level", "dataloader_num_workers", "dataloader_prefetch_factor", "dataloader_persistent_workers"),
    *("frame_cache", "frame_cache_gib"),  # only `frame_candidates` changes what a run sees
    *("dataloader_pin_memory", "per_device_eval_batch_size", "save_total_limit"),
    # They trade memory for time; transformers keeps the second under an old name too.
    *("embed_batch_size", "activation_checkpointing", "gradient_checkpointing"),
    *("push_to_hub", "hub_model_id", "hub_strategy", "hub_private_repo", "hub_always_push", "hub_revision"),
)


def get_stages_dir(output_dir: str | Path) -> Path:
    """Where a run keeps its stages and checkpoints: beside its release, which is published as it is."""
    output_dir = Path(output_dir).resolve()
    return output_dir.with_name(f"{output_dir.name}-stages")


def resolve_settings(settings: tuple) -> dict[str, Any]:
    """All settings as plain values, without a secret and what concerns one start alone."""
    resolved = {}
    for group in settings:
        values = group.to_dict() if isinstance(group, TrainingArguments) else dict(group.__dict__)
        # Nothing is the default of most fields that may hold nothing; of the others it must be written.
        resolved |= {
            item.name: values[item.name]
            for item in fields(group)
            if item.init and not (values[item.name] is None and item.default is None)
        }
    for key in ("hub_token", "local_rank", "resume_from_checkpoint"):  # a secret, and two of this start alone
        resolved.pop(key, None)
    return resolved


def cut_local_paths(resolved: dict[str, Any]) -> dict[str, Any]:
    """The settings with every path from the root of this machine cut to its last part."""
    return {
        name: Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value
        for name, value in resolved.items()
    }


def write_settings(settings: tuple, path: Path, is_public: bool = False) -> None:
    """Writes the resolved settings as a YAML file that `parse_arguments` reads again; paths cut if public."""
    resolved = resolve_settings(settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(cut_local_paths(resolved) if is_public else resolved, sort_keys=True))


def check_settings(settings: tuple, path: Path) -> None:
    """
    Refuses to continue a run with other settings than it began with; where it lies and how it is logged and
    loaded may change.

    Args:
        settings: those of this start.
        path: what `write_settings` wrote at the first start.

    Raises:
        ValueError: one differs; it names the setting and both values. Or `path` is damaged.
    """
    if not path.is_file():
        return
    try:
        written = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError):
        written = None
    if not isinstance(written, dict):
        raise ValueError(
            f"`{path}` is damaged; it must hold the `key: value` lines of the run's settings: restore it, or "
            "start another run in another `--output_dir`"
        )
    # What the Hub keeps has its paths cut, and data may lie elsewhere on another machine.
    defaults = {item.name: item.default for group in settings for item in fields(group)}
    before = defaults | cut_local_paths(written)  # another version may lack a field
    now = defaults | cut_local_paths(resolve_settings(settings))
    for name in sorted(before.keys() | now.keys()):
        if name not in FREE_SETTINGS and before.get(name) != now.get(name):
            raise ValueError(
                f"`{name}` is {now.get(name)!r} but the run in {path.parent} began with "
                f"{before.get(name)!r}; continue it with its own settings, or start another in another "
                "`--output_dir`"
            )


__all__ = ["check_settings", "get_stages_dir", "write_settings"]
