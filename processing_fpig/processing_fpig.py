"""One call for both sides of a pair: captions through the tokenizer, videos through the video processor."""

from typing import Any

from transformers.feature_extraction_utils import BatchFeature
from transformers.processing_utils import ProcessorMixin

from .video_processing_fpig import FPigVideoProcessor


class FPigProcessor(ProcessorMixin):
    """
    Tokenizes captions and turns videos into pixel values.

    Args:
        video_processor: an [`FPigVideoProcessor`].
        tokenizer: a CLIP tokenizer, or another that ends a text with its end-of-text token.
        max_length: captions are cut to this many tokens, begin and end included, or to the tokenizer's
            `model_max_length` where that is less.
    """

    def __init__(
        self, video_processor: Any = None, tokenizer: Any = None, max_length: int = 50, **kwargs: Any
    ) -> None:
        if video_processor is None or tokenizer is None:
            missing = "video_processor" if video_processor is None else "tokenizer"
            raise ValueError(f"`{missing}` is None; a processor needs both: pass `{missing}=…`")
        self.max_length = check_max_length(max_length)
        super().__init__(video_processor, tokenizer, **kwargs)

    def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
        """Takes the video processor as it is: transformers' own base class is a dummy without torchvision."""
        if argument_name == "video_processor":
            return type(argument)
        return super().check_argument_for_proper_class(argument_name, argument)

    @classmethod
    def _get_arguments_from_pretrained(
        cls, pretrained_model_name_or_path: str, processor_dict: dict | None = None, **kwargs: Any
    ) -> list[Any]:
        """Loads the parts; the video processor by its own class, which needs no torchvision."""
        # The tokenizer runs no code of the repository; unless told so, transformers would ask, and wait.
        trust_remote_code = kwargs.pop("trust_remote_code", False)
        tokenizer = cls._load_tokenizer_from_pretrained(
            "tokenizer", pretrained_model_name_or_path, trust_remote_code=trust_remote_code, **kwargs
        )
        video_processor = FPigVideoProcessor.from_pretrained(pretrained_model_name_or_path, **kwargs)
        return [video_processor, tokenizer]

    def __call__(
        self,
        text: str | list[str] | None = None,
        videos: Any = None,
        max_length: int | None = None,
        return_tensors: str | None = "pt",
        text_kwargs: dict[str, Any] | None = None,
        videos_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """
        Captions, videos or both.

        Args:
            text: one caption or a list.
            videos: one video or a list; see [`FPigVideoProcessor`].
            max_length: instead of the processor's own.
            return_tensors: `"pt"` or `"np"`.
            text_kwargs: more arguments for the tokenizer; captions are padded to the longest and truncated.
            videos_kwargs: more arguments for the video processor: `num_frames`, `mode`, `generator`,
                `num_candidates`.
            kwargs: `images_kwargs`, `audio_kwargs` and `common_kwargs` of transformers' processors; the last
                may hold `return_tensors`, the first nothing; the second are for what is not passed here.

        Returns:
            `input_ids` and `attention_mask` [Q, L] with `text`, `pixel_values` [B, T, 3, S, S] with `videos`.

        Raises:
            ValueError: neither captions nor videos, an empty list, or an argument that is not known.
        """
        common_kwargs = kwargs.pop("common_kwargs", None) or {}
        kwargs.pop("audio_kwargs", None)  # sentence-transformers always fills them
        unknown = [
            name for name, value in kwargs.items() if name not in OTHER_KWARGS or not is_nothing(value)
        ]
        unknown += [name for name in common_kwargs if name != "return_tensors"]
        if unknown:
            raise ValueError(
                f"`{unknown[0]}` is not known; pass `text` and `videos`, and what concerns one of them in "
                f"`text_kwargs` or `videos_kwargs`: `videos_kwargs={{'num_frames': 8}}`"
            )
        if text is None and videos is None:
            raise ValueError("`text` and `videos` are both None; pass one of them")
        return_tensors = common_kwargs.get("return_tensors", return_tensors)
        data: dict[str, Any] = {}
        if text is not None:
            # sentence-transformers' `max_seq_length` sets the tokenizer's limit.
            limit = min(self.max_length, self.tokenizer.model_max_length)
            arguments = {"padding": True, "truncation": True, "max_length": limit}
            if max_length is not None:
                arguments["max_length"] = check_max_length(max_length)
            arguments |= {"return_tensors": return_tensors} | (text_kwargs or {})
            data |= self.tokenizer(check_text(text), **arguments)
        if videos is not None:
            arguments = {"return_tensors": return_tensors} | (videos_kwargs or {})
            data |= self.video_processor(videos, **arguments)
        return BatchFeature(data)

    @property
    def model_input_names(self) -> list[str]:
        """What the model takes of this processor."""
        return ["input_ids", "attention_mask", "pixel_values"]


OTHER_KWARGS = ("images", "images_kwargs", "audio")  # which must be empty


def is_nothing(value: Any) -> bool:
    """None or an empty dict; asked so that arrays are not compared."""
    return value is None or (isinstance(value, dict) and not value)


def check_max_length(max_length: Any) -> int:
    """
    A number of tokens that can hold a caption.

    Raises:
        ValueError: it is no integer of at least 3.
    """
    if not isinstance(max_length, int) or isinstance(max_length, bool) or max_length < 3:
        raise ValueError(
            f"`max_length` is {max_length!r}; it must be an integer of at least 3: begin, one token, end"
        )
    return max_length


def check_text(text: Any) -> list[str]:
    """
    One caption or several → a list.

    Raises:
        ValueError: an empty list, or something that is no string.
    """
    captions = [text] if isinstance(text, str) else list(text)
    if not captions:
        raise ValueError("`text` is an empty list; pass at least one caption")
    for caption in captions:
        if not isinstance(caption, str):
            raise ValueError(f"`text` holds {caption!r}; captions are strings")
    return captions


__all__ = ["FPigProcessor"]
