"""Training with FSDP2, which keeps of each weight a part in every process: what it asks of a model."""

from collections.abc import Mapping

import torch
from accelerate.utils import FullyShardedDataParallelPlugin
from torch import nn
from transformers import PreTrainedModel


def check_fsdp(plugin: FullyShardedDataParallelPlugin) -> None:
    """
    Raises:
        ValueError: a setting of the accelerate config with which a run could not be saved or measured.
    """
    found = {
        "fsdp_version": plugin.fsdp_version,
        "fsdp_state_dict_type": plugin.state_dict_type.name,
        "fsdp_cpu_ram_efficient_loading": plugin.cpu_ram_efficient_loading,
    }
    needed = {
        "fsdp_version": 2,
        "fsdp_state_dict_type": "FULL_STATE_DICT",  # a checkpoint is a model that can be loaded
        "fsdp_cpu_ram_efficient_loading": False,  # it would leave all processes but one without weights
    }
    for name, value in needed.items():
        if found[name] != value:
            raise ValueError(
                f"`{name}` is {found[name]} in the accelerate config; it must be {value}, as in "
                "configs/accelerate/fsdp.yaml"
            )


def prepare_for_fsdp(model: PreTrainedModel) -> None:
    """Makes a model one that accelerate can shard, in place; `make_whole` undoes it."""
    # FSDP shards no scalars.
    scale = model.logit_scale
    model.logit_scale = nn.Parameter(scale.detach().reshape(1), requires_grad=scale.requires_grad)
    for parameter in model.parameters():
        if parameter.numel() == 0:  # the proxy tokens of a model without: FSDP can't average their gradient
            parameter.requires_grad_(False)
    # accelerate would shard the token embeddings apart, and transformers finds none in a model of two towers.
    model.get_input_embeddings = lambda: None


def make_whole(model: PreTrainedModel, weights: Mapping[str, torch.Tensor]) -> PreTrainedModel:
    """A model of the same class without FSDP, with all of `weights`, on the CPU and in evaluation mode."""
    from torch.distributed.fsdp import FSDPModule

    model_class = next(cls for cls in type(model).__mro__ if not issubclass(cls, FSDPModule))
    with torch.random.fork_rng(devices=[]):  # the weights that a new model draws must not change the run
        whole = model_class(model.config)
    whole.load_state_dict(dict(weights) | {"logit_scale": weights["logit_scale"].reshape(())})
    return whole.eval()


def gather_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """All weights of a model that FSDP has sharded, in every process. All must call it."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    return get_model_state_dict(model, options=StateDictOptions(full_state_dict=True))


__all__ = ["check_fsdp", "gather_weights", "make_whole", "prepare_for_fsdp"]
