"""The F-Pig model: what a Hub repository of weights carries as its code."""

from transformers import AutoConfig, AutoModel

from modeling_fpig.configuration_fpig import FPigConfig
from modeling_fpig.modeling_fpig import FPigModel, FPigOutput, FPigPreTrainedModel, FPigVideoOutput

# Registered here and not in the modules: this file is not copied to the Hub, where `auto_map` does its work.
AutoConfig.register("fpig", FPigConfig, exist_ok=True)
AutoModel.register(FPigConfig, FPigModel, exist_ok=True)
FPigConfig.register_for_auto_class()
FPigModel.register_for_auto_class("AutoModel")

__all__ = ["FPigConfig", "FPigModel", "FPigOutput", "FPigPreTrainedModel", "FPigVideoOutput"]
