"""Captions and videos → embeddings, each encoded once, in batches."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch.nn.functional import normalize
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm
from transformers import AutoModel, AutoProcessor, PreTrainedModel, ProcessorMixin

from fpig.sharing import is_first_process


@dataclass(frozen=True)
class VideoBatch:
    """
    Embeddings of the readable videos of one batch, float32 on the CPU, and what was wrong with the others.

    Attributes:
        indices: positions of the readable videos among all that were asked for.
        embeds: unit vectors [B, D].
        class_token_embeds: unit vectors of the video tower's class token [B, D], from the same pass.
        errors: position → why the video can't be read.
        frame_embeds: unit vectors of the frame tokens [B, T, D], in the joint space; no frames if B is 0.
        pseudo_query_embeds: unit vectors [B, D]; `None` for the baselines.
        selected_token_indices: positions of the selected patches among all tokens [B, K], best first; `None`
            for the baselines and for K = 0.
        summary_tokens: what the pseudo-query attends over [B, G + T, D], not normalised; `None` for the
            baselines.
    """

    indices: list[int]
    embeds: torch.Tensor
    class_token_embeds: torch.Tensor
    errors: dict[int, Exception]
    frame_embeds: torch.Tensor
    pseudo_query_embeds: torch.Tensor | None = None
    selected_token_indices: torch.Tensor | None = None
    summary_tokens: torch.Tensor | None = None


class PixelValuesDataset(Dataset):
    """Decodes one video per item; an unreadable one gives its error, which then survives a process border."""

    def __init__(self, processor: ProcessorMixin, videos: Sequence[Any]) -> None:
        self.processor = processor
        self.videos = videos

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, index: int) -> tuple[int, torch.Tensor | Exception]:
        try:
            batch = self.processor(videos=[self.videos[index]], return_tensors="pt")
        except (OSError, ValueError) as error:
            return index, error
        return index, batch["pixel_values"][0]


def load_encoder(
    name_or_path: str, revision: str | None = None, trust_remote_code: bool = False
) -> tuple[PreTrainedModel, ProcessorMixin]:
    """
    A trained model in evaluation mode, on the GPU if there is one, and its processor.

    Args:
        name_or_path: a folder, or a repository of the Hub.
        revision: branch, tag or commit of the repository.
        trust_remote_code: run the code of a repository; that of a folder on this machine is run anyway.

    Raises:
        OSError: no such folder or repository.
        ValueError: its code would have to be run, and is not trusted, or it holds another kind of model.
    """
    is_folder = Path(name_or_path).is_dir()
    if not is_folder and (name_or_path.count("/") != 1 or name_or_path.startswith((".", "/"))):
        raise FileNotFoundError(
            f"`{name_or_path}` is not a folder, and a repository of the Hub is named `owner/name`; pass one "
            "of the two"
        )
    source = {
        "pretrained_model_name_or_path": name_or_path,
        "revision": revision,
        "trust_remote_code": trust_remote_code or is_folder,
    }
    try:
        model = AutoModel.from_pretrained(**source)
    except SafetensorError as error:
        raise ValueError(
            f"the weights of `{name_or_path}` are damaged ({error}); fetch them again"
        ) from error
    if model.config.model_type != "fpig":
        raise ValueError(
            f"`{name_or_path}` holds a model of type {model.config.model_type!r}; pass a trained one of type "
            "'fpig'"
        )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return model.eval().to(device), AutoProcessor.from_pretrained(**source)


def embed_captions(
    model: PreTrainedModel, processor: ProcessorMixin, captions: Sequence[str], batch_size: int = 256
) -> torch.Tensor:
    """
    Embeddings of captions: unit vectors [Q, D], float32 on the CPU.

    A caption that occurs several times is encoded once, so that its copies are equal to the last bit.

    Args:
        model: an `FPigModel`, on any device and in any dtype.
        processor: its tokenizer side is used.
        captions: at least one.
        batch_size: captions encoded together.

    Raises:
        ValueError: no captions.
    """
    return to_unit_vectors(compute_caption_features(model, processor, captions, batch_size))


def compute_caption_features(
    model: PreTrainedModel, processor: ProcessorMixin, captions: Sequence[str], batch_size: int = 256
) -> torch.Tensor:
    """As `embed_captions`, but not normalised: what the interaction reads [Q, D], float32 on the CPU."""
    check_batch("captions", captions, batch_size)
    positions = {caption: index for index, caption in enumerate(dict.fromkeys(captions))}
    texts = list(positions)
    blocks = []
    with evaluation_mode(model), torch.inference_mode():
        starts = range(0, len(texts), batch_size)
        is_quiet = len(starts) == 1 or not is_first_process()
        for start in tqdm(starts, desc="Encoding captions", unit="batch", disable=is_quiet):
            tokens = processor(text=texts[start : start + batch_size], return_tensors="pt").to(model.device)
            blocks.append(model.get_text_features(**tokens, return_dict=True).pooler_output.float().cpu())
    return torch.cat(blocks)[[positions[caption] for caption in captions]]


def embed_videos(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    videos: Sequence[Any],
    batch_size: int = 32,
    num_workers: int = 0,
) -> torch.Tensor:
    """
    Embeddings of videos: unit vectors [V, D], float32 on the CPU.

    Args:
        model: an `FPigModel`, on any device and in any dtype.
        processor: its video side decodes, samples frames and resizes.
        videos: at least one; anything that the processor takes as a video, such as a path.
        batch_size: videos encoded together.
        num_workers: processes that decode beside this one; 0 decodes in this one.

    Raises:
        ValueError: no videos, or one that can't be read; it names the file.
    """
    batches = embed_video_batches(model, processor, videos, batch_size, num_workers)
    return torch.cat([require_readable(batch).embeds for batch in batches])


def embed_video_batches(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    videos: Sequence[Any],
    batch_size: int = 32,
    num_workers: int = 0,
) -> Iterator[VideoBatch]:
    """
    Embeds videos batch by batch, in order; unreadable ones are reported in the batch instead of raised.

    Arguments as in `embed_videos`.

    Raises:
        ValueError: no videos.
    """
    check_batch("videos", videos, batch_size)
    loader = DataLoader(
        PixelValuesDataset(processor, videos), batch_size, num_workers=num_workers, collate_fn=list
    )
    progress = tqdm(total=len(videos), desc="Encoding videos", unit="video", disable=not is_first_process())
    with evaluation_mode(model), progress:
        for items in loader:
            yield embed_items(model, items)
            progress.update(len(items))


def embed_items(model: PreTrainedModel, items: list[tuple[int, torch.Tensor | Exception]]) -> VideoBatch:
    """One batch of `PixelValuesDataset` through the video side of the model."""
    errors = {index: item for index, item in items if isinstance(item, Exception)}
    readable = [(index, item) for index, item in items if index not in errors]
    if not readable:
        empty = torch.empty(0, model.config.projection_dim)
        return VideoBatch([], empty, empty, errors, empty[:, None])
    indices, clips = zip(*readable, strict=True)
    with torch.inference_mode():
        pixel_values = torch.stack(clips).to(model.device, model.dtype)
        features = model.get_video_features(pixel_values, output_last_hidden_state=False, return_dict=True)
        summary_tokens = features.summary_tokens
        is_hybrid = features.pseudo_query is not None
        return VideoBatch(
            list(indices),
            to_unit_vectors(features.pooler_output),
            to_unit_vectors(summary_tokens[:, 0]),
            errors,
            to_unit_vectors(summary_tokens[:, model.config.num_global_tokens :]),
            to_unit_vectors(features.pseudo_query) if is_hybrid else None,
            features.selected_token_indices.cpu() if is_hybrid and model.config.num_selected_tokens else None,
            summary_tokens.float().cpu() if is_hybrid else None,
        )


def to_unit_vectors(features: torch.Tensor) -> torch.Tensor:
    """Normalised in float32 whatever the model computes in: rounded unit vectors would tie."""
    return normalize(features.float(), dim=-1).cpu()


def require_readable(batch: VideoBatch) -> VideoBatch:
    """
    The batch itself.

    Raises:
        ValueError: one of its videos can't be read.
    """
    raise_unreadable(batch.errors)
    return batch


def raise_unreadable(errors: Mapping[int, Exception]) -> None:
    """
    Raises:
        ValueError: a video can't be read; the message names the first by its position, the key of `errors`.
    """
    for index, error in sorted(errors.items()):
        raise ValueError(
            f"`videos[{index}]` can't be embedded: {error}; repair the file or take it out"
        ) from error


def check_batch(name: str, items: Sequence[Any], batch_size: int) -> None:
    """
    Raises:
        ValueError: nothing to embed, or a batch size below 1.
    """
    if len(items) == 0:
        raise ValueError(f"`{name}` is empty; pass at least one")
    if batch_size < 1:
        raise ValueError(f"`batch_size` is {batch_size}; it must be at least 1")


@contextmanager
def evaluation_mode(model: PreTrainedModel) -> Iterator[None]:
    """Without dropout inside the block; afterwards in the mode from before."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


__all__ = [
    "VideoBatch",
    "compute_caption_features",
    "embed_captions",
    "embed_video_batches",
    "embed_videos",
    "raise_unreadable",
    "require_readable",
    "to_unit_vectors",
]
