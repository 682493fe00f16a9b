"""A CLIP-style tokenizer trained from captions, for models that start from no CLIP checkpoint."""

import json
from collections.abc import Iterable

from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from transformers import CLIPTokenizer

BEGIN_TOKEN = "<|startoftext|>"
END_TOKEN = "<|endoftext|>"
_WORD_END = "</w>"


def train_tokenizer(captions: Iterable[str], vocab_size: int = 1024, max_length: int = 50) -> CLIPTokenizer:
    """Train byte-pair encoding on captions and return it as transformers' `CLIPTokenizer`.

    As in CLIP: lower case; a vocabulary of the 256 bytes, the 256 bytes that end a word, the merges in the
    order they were learnt, begin of text, end of text; padding by the end of text. Every text can be encoded
    without an unknown token. It saves and loads through `AutoTokenizer` without code of ours.

    >>> tokenizer = train_tokenizer(["a red circle moves left", "a red square moves left"], max_length=12)
    >>> tokenizer.tokenize("A red CIRCLE blinks")
    ['a</w>', 'red</w>', 'circle</w>', 'b', 'l', 'i', 'n', 'k', 's</w>']

    Args:
        captions: Texts to learn from.
        vocab_size: Largest number of tokens; fewer come out where the captions have no more pairs to merge.
        max_length: Number of tokens, begin and end included, at which `truncation=True` cuts.

    Raises:
        ValueError: `vocab_size` has no room for the 512 byte tokens and the two special ones.
    """
    alphabet = sorted(ByteLevel.alphabet())
    base_tokens = [*alphabet, *(byte + _WORD_END for byte in alphabet)]
    num_merges = vocab_size - len(base_tokens) - 2
    if num_merges < 0:
        raise ValueError(
            f"`vocab_size` is {vocab_size} but bytes and special tokens alone take {len(base_tokens) + 2}; "
            "pass a larger one, such as 1024"
        )
    merges = _learn_merges(captions, base_tokens, num_merges)
    tokens = [*base_tokens, *("".join(pair) for pair in merges), BEGIN_TOKEN, END_TOKEN]
    vocab = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=max_length)


def _learn_merges(captions: Iterable[str], base_tokens: list[str], num_merges: int) -> list[tuple[str, str]]:
    """Learn the pairs to merge, most frequent first, on text split into words as CLIP's tokenizer does."""
    # Ties between pairs are broken by their tokens' numbers, and bytes that end a word would get theirs in
    # the order of a hash table, another one in every process: so all of them are listed beforehand.
    backend = CLIPTokenizer().backend_tokenizer
    backend.model = BPE(end_of_word_suffix=_WORD_END)
    trainer = BpeTrainer(
        vocab_size=num_merges + len(base_tokens),
        special_tokens=base_tokens,
        end_of_word_suffix=_WORD_END,
        show_progress=False,
    )
    backend.train_from_iterator(captions, trainer)
    merges = json.loads(backend.to_str())["model"]["merges"]
    return [tuple(pair) for pair in merges[:num_merges]]
