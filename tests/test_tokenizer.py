"""The trained tokenizer is a CLIP tokenizer in every respect but its vocabulary."""

import random

import pytest
from transformers import AutoTokenizer, CLIPTokenizer

from fpig.shapes import describe_shapes
from fpig.tokenizer import train_tokenizer


@pytest.fixture(scope="module")
def captions():
    counts = {"train": 400, "validation": 1, "test": 1}
    return [text for _, _, texts in describe_shapes(0, counts) for text in texts]


@pytest.fixture(scope="module")
def tokenizer(captions):
    return train_tokenizer(captions, vocab_size=1024, max_length=20)


def encode_slowly(tokenizer, text):
    """Byte-pair encoding by the book: merge the earliest learnt pair again and again, word by word."""
    ranks = {tuple(pair): rank for rank, pair in enumerate(tokenizer._merges)}
    tokens = []
    for word in text.lower().split():
        parts = [*word[:-1], word[-1] + "</w>"]
        while True:
            pairs = [pair for pair in zip(parts, parts[1:], strict=False) if pair in ranks]
            if not pairs:
                break
            best = min(pairs, key=ranks.__getitem__)
            index = list(zip(parts, parts[1:], strict=False)).index(best)
            parts[index : index + 2] = ["".join(best)]
        tokens += parts
    return [tokenizer.convert_tokens_to_ids(token) for token in ("<|startoftext|>", *tokens, "<|endoftext|>")]


def test_encodes_as_byte_pair_encoding_does(tokenizer, captions):
    assert type(tokenizer) is CLIPTokenizer
    texts = [text.replace(",", "") for text in captions[:200]] + [
        "Zebras crossing a redwood",
        "circling stars",
    ]
    for text in texts:
        assert tokenizer(text).input_ids == encode_slowly(tokenizer, text)


def test_vocabulary_is_laid_out_as_clips(tokenizer):
    vocab = tokenizer.get_vocab()
    assert len(vocab) == len(tokenizer) <= 1024
    assert sorted(vocab.values()) == list(range(len(vocab)))
    assert tokenizer.bos_token_id == len(vocab) - 2
    assert tokenizer.eos_token_id == tokenizer.pad_token_id == len(vocab) - 1
    assert all(token.endswith("</w>") for token, index in vocab.items() if 256 <= index < 512)
    assert not any(token.endswith("</w>") for token, index in vocab.items() if index < 256)
    assert vocab["".join(tokenizer._merges[0])] == 512


def test_words_of_the_captions_are_single_tokens(tokenizer, captions):
    assert tokenizer.tokenize("A crimson DISC circles  anticlockwise") == [
        f"{word}</w>" for word in ["a", "crimson", "disc", "circles", "anticlockwise"]
    ]
    assert max(len(ids) for ids in tokenizer(captions).input_ids) <= 25


def test_any_text_survives(tokenizer):
    for text in ("zoë's 3 ünïcode cafés", "日本語 🎬", "x" * 40):
        ids = tokenizer(text).input_ids
        assert tokenizer.eos_token_id not in ids[1:-1]
        assert tokenizer.decode(ids, skip_special_tokens=True).replace(" ", "") == text.replace(" ", "")


def test_attention_mask_covers_through_the_first_end_token(tokenizer):
    batch = tokenizer(["a red star", "a big blue ring moves left"], padding=True, return_tensors="pt")
    assert batch.attention_mask.tolist() == [[1, 1, 1, 1, 1, 0, 0, 0], [1] * 8]
    first_end = (batch.input_ids == tokenizer.eos_token_id).int().argmax(dim=1)
    assert first_end.tolist() == [4, 7]
    assert batch.attention_mask.sum(dim=1).tolist() == (first_end + 1).tolist()


def test_truncates_at_the_saved_length_and_keeps_the_end_token(tokenizer):
    ids = tokenizer("a red star " * 20, truncation=True).input_ids
    assert len(ids) == tokenizer.model_max_length == 20
    assert (ids[0], ids[-1]) == (tokenizer.bos_token_id, tokenizer.eos_token_id)


def test_round_trip_through_a_folder(tokenizer, captions, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert type(loaded) is CLIPTokenizer
    assert loaded.model_max_length == 20
    texts = [*captions[:100], "Zoë's 3 cafés 🎬"]
    assert loaded(texts, truncation=True).input_ids == tokenizer(texts, truncation=True).input_ids
    assert (loaded.bos_token_id, loaded.eos_token_id, loaded.pad_token_id) == (
        tokenizer.bos_token_id,
        tokenizer.eos_token_id,
        tokenizer.pad_token_id,
    )


def test_same_captions_give_the_same_tokenizer(tokenizer, captions):
    """Every process of a distributed run trains its own: they must agree, ties between merges included."""
    for seed in range(8):
        shuffled = random.Random(seed).sample(captions, len(captions))
        assert train_tokenizer(shuffled, vocab_size=1024, max_length=20).get_vocab() == tokenizer.get_vocab()


def test_vocabulary_size_is_kept(captions):
    tokenizer = train_tokenizer(captions, vocab_size=600)
    assert len(tokenizer) == 600
    assert tokenizer.model_max_length == 50


def test_too_small_a_vocabulary_is_refused(captions):
    assert len(train_tokenizer(captions, vocab_size=514)) == 514
    with pytest.raises(ValueError, match="`vocab_size` is 513 but bytes and special tokens alone take 514"):
        train_tokenizer(captions, vocab_size=513)
