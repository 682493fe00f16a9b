"""Where a training run starts: CLIP, a trained F-Pig, or a small model with random weights."""

from collections.abc import Iterable
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase, ProcessorMixin

from fpig.embedding import load_encoder
from fpig.tokenizer import train_tokenizer
from fpig.training_args import ModelArguments
from modeling_fpig import FPigConfig, FPigModel
from processing_fpig import FPigProcessor, FPigVideoProcessor


def load_start(args: ModelArguments, captions: Iterable[str]) -> tuple[PreTrainedModel, ProcessorMixin]:
    """
    The model before training, and its processor.

    Args:
        args: which start; `clip_name_or_path` and `model_name_or_path` exclude each other.
        captions: the training captions; a model with random weights gets a tokenizer trained from them.

    Raises:
        ValueError: two starts, or settings that do not fit.
        OSError: the checkpoint to start from is not there.
    """
    if args.clip_name_or_path and args.model_name_or_path:
        raise ValueError(
            f"`clip_name_or_path` is {args.clip_name_or_path!r} and `model_name_or_path` is "
            f"{args.model_name_or_path!r}; a run starts from one of them: leave one out"
        )
    try:
        if args.model_name_or_path:
            return load_trained_model(args)
        if args.clip_name_or_path:
            return load_clip(args)
    except OSError as error:
        name = "model_name_or_path" if args.model_name_or_path else "clip_name_or_path"
        reason = " ".join(str(error).split())  # transformers spreads it over several lines
        raise OSError(f"`{name}` is {args.__dict__[name]!r} and can't be loaded: {reason}") from error
    return build_small_model(args, captions)


def get_base_model(args: ModelArguments) -> str | None:
    """The Hub's name of the checkpoint that a run starts from; `None` for a folder or random weights."""
    name = args.clip_name_or_path or args.model_name_or_path
    return None if not name or Path(name).exists() else name


def load_trained_model(args: ModelArguments) -> tuple[PreTrainedModel, ProcessorMixin]:
    """A trained F-Pig or baseline as it is: its own config decides, except for the loss weight."""
    model, processor = load_encoder(args.model_name_or_path, args.model_revision, args.trust_remote_code)
    model.config.generation_loss_weight = args.generation_loss_weight
    return model, processor


def load_clip(args: ModelArguments) -> tuple[PreTrainedModel, ProcessorMixin]:
    """F-Pig or a baseline on a CLIP checkpoint, with CLIP's tokenizer."""
    model = FPigModel.from_clip_pretrained(
        args.clip_name_or_path,
        revision=args.model_revision,
        video_pooling=args.video_pooling,
        num_frames=args.num_frames,
        num_proxy_tokens=args.num_proxy_tokens,
        num_selected_tokens=args.num_selected_tokens,
        use_interaction=args.use_interaction,
        generation_loss_weight=args.generation_loss_weight,
    )
    limit = model.config.text_config.max_position_embeddings
    if args.max_length > limit:
        raise ValueError(
            f"`max_length` is {args.max_length} but the CLIP checkpoint has {limit} positions; pass "
            f"`--max_length {limit}` or less"
        )
    tokenizer = AutoTokenizer.from_pretrained(args.clip_name_or_path, revision=args.model_revision)
    return model, build_processor(args, tokenizer, model.config.vision_config.image_size)


def build_small_model(
    args: ModelArguments, captions: Iterable[str]
) -> tuple[PreTrainedModel, ProcessorMixin]:
    """A small model with random weights whose tokenizer knows the training captions' words."""
    tokenizer = train_tokenizer(captions, vocab_size=args.vocab_size, max_length=args.max_length)
    tower = {
        "hidden_size": args.hidden_size,
        "intermediate_size": 4 * args.hidden_size,
        "num_hidden_layers": args.num_hidden_layers,
        "num_attention_heads": args.num_attention_heads,
    }
    generator_length = 3 + args.num_proxy_tokens + args.num_frames + args.num_selected_tokens
    text_config = tower | {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": max(args.max_length, generator_length),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = FPigConfig(
        text_config=text_config,
        vision_config=tower | {"image_size": args.image_size, "patch_size": args.patch_size},
        projection_dim=args.projection_dim,
        num_frames=args.num_frames,
        num_proxy_tokens=args.num_proxy_tokens,
        num_selected_tokens=args.num_selected_tokens,
        use_interaction=args.use_interaction,
        generation_loss_weight=args.generation_loss_weight,
        logit_scale_init_value=args.logit_scale_init_value,
        video_pooling=args.video_pooling,
    )
    return FPigModel(config), build_processor(args, tokenizer, args.image_size)


def build_processor(
    args: ModelArguments, tokenizer: PreTrainedTokenizerBase, image_size: int
) -> FPigProcessor:
    """The processor that goes with a new model."""
    tokenizer.model_max_length = args.max_length  # a CLIP checkpoint's says 77; others show and save this one
    video_processor = FPigVideoProcessor(num_frames=args.num_frames, size=image_size)
    return FPigProcessor(video_processor=video_processor, tokenizer=tokenizer, max_length=args.max_length)


__all__ = ["get_base_model", "load_start"]
