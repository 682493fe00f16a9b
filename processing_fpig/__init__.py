"""From videos and captions to the tensors F-Pig takes: what a Hub repository carries as its processor."""

from processing_fpig.frames_fpig import VideoReadError
from processing_fpig.processing_fpig import FPigProcessor
from processing_fpig.video_processing_fpig import FPigVideoProcessor

# Here and not in the modules: this file is not copied to the Hub, where `auto_map` does its work.
FPigProcessor.register_for_auto_class("AutoProcessor")
FPigVideoProcessor.register_for_auto_class("AutoVideoProcessor")

__all__ = ["FPigProcessor", "FPigVideoProcessor", "VideoReadError"]
