"""
Writes both encoders of a trained model as ONNX files.

    fpig export FOLDER OUT_DIR

OUT_DIR then holds the processor and

- `text_encoder.onnx`: `input_ids`, `attention_mask` [Q, L] int64 → `text_embeds` [Q, D]
- `video_encoder.onnx`: `pixel_values` [B, T, 3, S, S] float32 → `video_embeds` [B, D]

Embeds are unit vectors, float32. Q, L, B and T are free within what the model takes. Give what the processor
made: what the model refuses with an error, such as a caption without an end-of-text token, may pass here.
"""

import argparse
import copy
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedConfig, PreTrainedModel, ProcessorMixin

# The two sum up in different orders. Measured: at most 3e-7, in a tiny model and at the size of ViT-B/32.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class EncoderFile:
    """
    One of the two files.

    Attributes:
        name: of the file.
        method: the model's method that it computes.
        output_name: of its output.
        example: inputs that it is traced with, name → tensor.
        probe: inputs of other sizes, that it is compared with torch on.
        dynamic_shapes: input → axis → `torch.export.Dim`.
    """

    name: str
    method: str
    output_name: str
    example: dict[str, "torch.Tensor"]
    probe: dict[str, "torch.Tensor"]
    dynamic_shapes: dict[str, dict[int, Any]]


def require_onnx() -> None:
    """
    Raises:
        ModuleNotFoundError: a package is not installed that writes or runs ONNX files.
    """
    for package in ("onnx", "onnxruntime", "onnxscript"):
        if find_spec(package) is None:
            raise ModuleNotFoundError(
                f"`{package}` is not installed and is needed for ONNX files; pip install 'fpig[onnx]'"
            )


def check_export_target(folder: Path) -> None:
    """
    Raises:
        FileExistsError: something is there already.
    """
    if os.path.lexists(folder):  # a link to nothing too
        raise FileExistsError(f"`{folder}` is there already; remove it or choose another name")


def export_encoders(model: "PreTrainedModel", processor: "ProcessorMixin", folder: Path) -> dict[str, float]:
    """
    Writes both encoders and the processor. The folder appears when onnxruntime has computed what torch does.

    Weights of more than 1.5 GB lie in a `.onnx.data` file beside their `.onnx`: ONNX can't hold them in one.

    Args:
        model: an `FPigModel`, on any device and in any dtype; exported in float32.
        processor: saved with its code files.
        folder: must not exist.

    Returns:
        File name → largest absolute difference of a component of an embedding from torch's.

    Raises:
        FileExistsError: something is there already.
        ModuleNotFoundError: a package of the extra `onnx` is missing.
        ValueError: torch can't translate the code, or an embedding differs by more than 1e-4.
    """
    require_onnx()
    check_export_target(folder)
    target = folder.absolute()
    target.parent.mkdir(parents=True, exist_ok=True)
    model = copy.deepcopy(model).float().cpu().eval()
    differences = {}
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as scratch:
        partial_folder = Path(scratch) / target.name
        partial_folder.mkdir()
        for file in (plan_text_encoder(model.config), plan_video_encoder(model.config)):
            try:
                write_encoder(model, file, partial_folder / file.name)
            except RuntimeError as error:  # torch's, of a trace or its translation
                raise ValueError(
                    f"`{file.name}` can't be made from this model's code ({str(error).splitlines()[0]}); "
                    "write the model again with this version of fpig"
                ) from error
            difference = measure_difference(model, file, partial_folder / file.name)
            if not difference <= TOLERANCE:
                raise ValueError(
                    f"`{file.name}` gives embeddings that differ by {difference:.1e} from torch's; at most "
                    f"{TOLERANCE:.0e} is allowed, and nothing was kept: try other versions of torch, "
                    "onnxscript and onnxruntime"
                )
            differences[file.name] = difference
        processor.save_pretrained(partial_folder)
        partial_folder.rename(target)
    return differences


def plan_text_encoder(config: "PreTrainedConfig") -> EncoderFile:
    """The caption tower of a model with this configuration."""
    from torch.export import Dim

    limit = config.text_config.max_position_embeddings
    axes = {0: Dim("captions"), 1: Dim("tokens", max=limit)}
    return EncoderFile(
        name="text_encoder.onnx",
        method="encode_text",
        output_name="text_embeds",
        # No axis of an example may have the size 1, which torch would take for a constant.
        example=make_captions(config.text_config, num_captions=2, length=2),
        probe=make_captions(config.text_config, num_captions=3, length=limit),
        dynamic_shapes={"input_ids": axes, "attention_mask": axes},
    )


def plan_video_encoder(config: "PreTrainedConfig") -> EncoderFile:
    """The video side of a model with this configuration: any number of frames that the model takes."""
    from torch.export import Dim

    minimum, maximum = 1, None
    if config.video_pooling == "pseudo_query":
        minimum = max(1, -(-config.num_selected_tokens // config.num_patches))
        maximum = config.text_config.max_position_embeddings - config.get_generator_length(0)
    axes = {0: Dim("videos"), 1: Dim("frames", min=minimum, max=maximum)}
    return EncoderFile(
        name="video_encoder.onnx",
        method="encode_video",
        output_name="video_embeds",
        example=make_videos(config.vision_config, num_videos=2, num_frames=max(2, minimum)),
        probe=make_videos(config.vision_config, num_videos=3, num_frames=config.num_frames),
        dynamic_shapes={"pixel_values": axes},
    )


def make_captions(
    text_config: "PreTrainedConfig", num_captions: int, length: int
) -> dict[str, "torch.Tensor"]:
    """Random captions [Q, L]; the first fills all tokens, each other ends earlier and is padded."""
    import torch

    shape = (num_captions, length)
    input_ids = torch.randint(text_config.vocab_size, shape, generator=torch.Generator().manual_seed(0))
    input_ids[input_ids == text_config.eos_token_id] = text_config.bos_token_id
    end_positions = length - 1 - torch.arange(num_captions)[:, None] * (length // num_captions)  # [Q, 1]
    positions = torch.arange(length)
    input_ids[positions >= end_positions] = text_config.eos_token_id  # CLIP pads with it too
    return {"input_ids": input_ids, "attention_mask": (positions <= end_positions).long()}


def make_videos(
    vision_config: "PreTrainedConfig", num_videos: int, num_frames: int
) -> dict[str, "torch.Tensor"]:
    """Noise [B, T, 3, S, S]."""
    import torch

    size, num_channels = vision_config.image_size, vision_config.num_channels
    shape = (num_videos, num_frames, num_channels, size, size)
    return {"pixel_values": torch.randn(shape, generator=torch.Generator().manual_seed(0))}


def make_encoder(model: "PreTrainedModel", method: str) -> "nn.Module":
    """A module whose `forward` is a method of the model."""
    from torch import nn

    class Encoder(nn.Module):
        def __init__(self, model: "PreTrainedModel") -> None:
            super().__init__()
            self.model = model

        def forward(self, *inputs: "torch.Tensor") -> "torch.Tensor":
            return getattr(self.model, method)(*inputs)

    return Encoder(model).eval()


@contextmanager
def free_frames(model: "PreTrainedModel") -> Iterator[None]:
    """Inside the block no branch asks for the number of frames: a trace would fix it with the branch."""
    embeddings = model.vision_model.embeddings
    embeddings.get_temporal_embedding = partial(interpolate_temporal_embedding, embeddings)
    try:
        yield
    finally:
        del embeddings.get_temporal_embedding


def interpolate_temporal_embedding(embeddings: "nn.Module", num_frames: int) -> "torch.Tensor":
    """What `get_temporal_embedding` gives, [T, Dv], without its short cut where T is the table's length."""
    from torch.nn.functional import interpolate

    table = embeddings.temporal_embedding.T.unsqueeze(0)  # [1, Dv, frames of the table]
    return interpolate(table, size=num_frames, mode="linear").squeeze(0).T


def write_encoder(model: "PreTrainedModel", file: EncoderFile, path: Path) -> None:
    """Traces one encoder and writes it as ONNX, its weights in the same file where ONNX can hold them."""
    import torch
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass

    example = tuple(file.example.values())
    # In the order of the inputs: a module with `*inputs` has no names for them.
    shapes = (tuple(file.dynamic_shapes.values()),)
    with quiet_exporter(), free_frames(model), torch.no_grad():
        # Strict, because otherwise `len(tensor)` in the model becomes the constant that it is in the example.
        encoder = make_encoder(model, file.method)
        program = torch.export.export(encoder, example, dynamic_shapes=shapes, strict=True)
        onnx_program = torch.onnx.export(
            program,
            input_names=list(file.example),
            output_names=[file.output_name],
            dynamic_shapes=file.dynamic_shapes,
            custom_translation_table=make_translations(),
            dynamo=True,
            verbose=False,
        )
    # Every node carries the stack trace that it comes from, and with it the names of this machine's folders.
    ClearMetadataAndDocStringPass()(onnx_program.model)
    onnx_program.save(path, external_data=False)


def make_translations() -> dict[Callable, Callable]:
    """What torch can't translate into ONNX: its operator → the operators of ONNX that do the same."""
    import torch
    from onnxscript import opset18 as op

    def sort(scores: Any, *, stable: bool, dim: int = -1, descending: bool = False) -> tuple[Any, Any]:
        # Stable: ONNX puts the lower index first where two values are equal.
        length = op.Gather(op.Shape(scores), op.Constant(value_ints=[dim]))
        return op.TopK(scores, length, axis=dim, largest=int(descending))

    def attend(query: Any, key: Any, value: Any, mask: Any = None, *, scale: float | None = None) -> Any:
        # The exporter's own wants four dimensions, and the interaction has no heads.
        rank, scale = len(key.shape), query.shape[-1] ** -0.5 if scale is None else scale
        key = op.Transpose(key, perm=[*range(rank - 2), rank - 1, rank - 2])
        scores = op.MatMul(op.Mul(query, op.Constant(value_float=scale)), key)
        if mask is None:
            return op.MatMul(op.Softmax(scores, axis=-1), value)
        zero, minus_infinity = op.Constant(value_float=0.0), op.Constant(value_float=float("-inf"))
        weights = op.Softmax(op.Where(mask, scores, minus_infinity), axis=-1)
        # A token that may see nothing, such as padding on the left, gets zeros, as in torch.
        return op.MatMul(op.Where(op.IsNaN(weights), zero, weights), value)

    return {
        torch.ops.aten.sort.stable: sort,
        torch.ops.aten.scaled_dot_product_attention.default: attend,
    }


@contextmanager
def quiet_exporter() -> Iterator[None]:
    """Without what torch.onnx reports of itself: no torchvision, a deprecated name, axes of one size."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)
            warnings.filterwarnings("ignore", message="# The axis name", category=UserWarning)
            yield
    finally:
        logger.setLevel(level)


def measure_difference(model: "PreTrainedModel", file: EncoderFile, path: Path) -> float:
    """The largest absolute difference of a component between onnxruntime and torch; NaN where one has NaN."""
    import numpy as np
    import onnxruntime
    import torch

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {name: tensor.numpy() for name, tensor in file.probe.items()})
    with torch.inference_mode():
        expected = getattr(model, file.method)(**file.probe).numpy()
    return float(np.abs(found - expected).max())


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="fpig export",
        description="Write both encoders as ONNX files, and compare them with torch. Any number of captions, "
        "tokens, videos and frames goes in. Needs the extra `onnx`.",
    )
    parser.add_argument("model", metavar="FOLDER", help="trained model: a folder, or a repository of the Hub")
    parser.add_argument("out_dir", metavar="OUT_DIR", type=Path, help="written; must not be there")
    parser.add_argument("--revision", help="branch, tag or commit of the repository")
    parser.add_argument("--trust_remote_code", action="store_true", help="run the code of the repository")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Exports, and says how far the files are from torch."""
    options = parse_arguments(arguments)
    try:
        require_onnx()
        check_export_target(options.out_dir)
        # Only now, and not at the top: it takes seconds, in which a typing error can be told.
        from fpig.embedding import load_encoder

        model, processor = load_encoder(options.model, options.revision, options.trust_remote_code)
        differences = export_encoders(model, processor, options.out_dir)
    except (ModuleNotFoundError, OSError, ValueError) as error:
        raise SystemExit(f"error: {' '.join(str(error).split())}") from error
    for name, difference in differences.items():
        sys.stdout.write(f"{options.out_dir / name}: at most {difference:.1e} from torch\n")


__all__ = ["export_encoders"]

if __name__ == "__main__":
    main()
