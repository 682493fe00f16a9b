"""MSVD's captions come as a pickle: nothing in it runs, and a bad one ends in an error."""

import os
import pickle
import subprocess
import sys
import time
import tracemalloc

import pytest
from fake_datasets import write_lines

from fpig.annotations import PUBLISHED
from fpig.annotations.msvd import read_pickled_captions
from fpig.annotations.published import read_split


def share_lists(depth):
    """A list of two of the same list of two …, whose text would have 2 ** depth words."""
    shared = []
    for _ in range(depth):
        shared = [shared, shared]
    return shared


def nest_tuples(num_tuples):
    """A pickle with a tuple in a tuple in … as a key: to hash it takes Python down."""
    return b"\x80\x02})" + b"\x85" * num_tuples + b"K\x01s."


class Attack:
    """What a pickle does when it is read in the usual way."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def test_malicious_pickles_run_nothing(tmp_path):
    path, mark = tmp_path / "raw-captions.pkl", tmp_path / "it ran"
    touch = f"touch '{mark}'"
    attacks = [
        pickle.dumps(Attack(os.system, touch)),
        *(pickle.dumps({"a": [["x"], Attack(os.system, touch)]}, protocol) for protocol in range(6)),
        pickle.dumps({"a": [[Attack(eval, f"open({str(mark)!r}, 'w')")]]}),
        pickle.dumps(Attack(exec, f"open({str(mark)!r}, 'w')")),
        f'(S"{touch}"\nios\nsystem\n.'.encode(),  # INST
        f'(cos\nsystem\nS"{touch}"\no.'.encode(),  # OBJ
        b"cbuiltins\ndict\n)R.",
        pickle.dumps({"a": [["x"], ["y"], {3}]}),
    ]
    for content in attacks[:-1]:
        path.write_bytes(content)
        with pytest.raises(
            ValueError, match=r"can't be read as a pickle of plain containers: it names \S+, and"
        ):
            read_pickled_captions(path)
    path.write_bytes(attacks[-1])
    with pytest.raises(ValueError, match="but must have lists of lists of words for each id"):
        read_pickled_captions(path)
    assert not mark.exists()
    pickle.loads(attacks[1])
    assert mark.exists(), "the attack is one"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "can't be read as a pickle of plain containers: pickle exhausted"),
        (b"no pickle", "can't be read as a pickle"),
        (pickle.dumps({"a": [["x"]]})[:-5], "can't be read as a pickle"),
        (b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f.", "can't be read as a pickle"),
        (b"\x80\x02]\x82\x01.", "can't be read as a pickle"),  # EXT1
        (b"\x80\x02Pkey\n.", "can't be read as a pickle"),  # PERSID
        (pickle.dumps([["a"]]), "holds a list but must hold a dict"),
        (pickle.dumps({"a": ["a caption"]}), "has for 'a' a list but must have lists of lists of words"),
        (pickle.dumps({"a": [["x", 3]]}), "has for 'a' a list but must have lists of lists of words"),
        (pickle.dumps({3: [["x"]]}), "has for 3 a list but must have lists of lists of words"),
        (pickle.dumps({"a": None}), "has for 'a' a NoneType but must have lists of lists of words"),
        (pickle.dumps({"a": share_lists(60)}), "has for 'a' a list but must have lists of lists of words"),
        (
            pickle.dumps({("a",): [["x"]]}),
            "as a pickle of plain containers: it holds a tuple, and only lists",
        ),
    ],
)
def test_bad_pickles(tmp_path, content, message):
    (tmp_path / "raw-captions.pkl").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_pickled_captions(tmp_path / "raw-captions.pkl")


def test_lists_in_lists_without_end(tmp_path):
    deep = b"\x80\x02}U\x01a" + b"]" * 10**6 + b"a" * (10**6 - 1) + b"s."
    (tmp_path / "raw-captions.pkl").write_bytes(deep)
    with pytest.raises(ValueError, match="has for 'a' a list but must have lists of lists of words"):
        read_pickled_captions(tmp_path / "raw-captions.pkl")


def test_nested_tuples_do_not_take_python_down(tmp_path):
    (tmp_path / "raw-captions.pkl").write_bytes(nest_tuples(2 * 10**6))
    code = (
        "from pathlib import Path; from fpig.annotations.msvd import read_pickled_captions\n"
        f"read_pickled_captions(Path({str(tmp_path / 'raw-captions.pkl')!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "it holds a tuple, and only lists are read" in done.stderr
    assert done.returncode == 1


@pytest.mark.parametrize("put", [b"r\0\0\0\x08", b"p134217728\n"])
def test_high_numbers_of_objects_take_no_memory(tmp_path, put):
    """The unpickler makes places for all numbers below."""
    (tmp_path / "raw-captions.pkl").write_bytes(b"\x80\x02]" + put + b".")
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="it numbers an object 134217728, but has 1?[0-9] bytes; get it"):
            read_pickled_captions(tmp_path / "raw-captions.pkl")
        assert tracemalloc.get_traced_memory()[1] < 10**6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "captions",
    [
        [["x" * 10**6]] * 2000,  # the same caption in many places
        [["x" * 10**6] * 2000],
        [["x"] * 10**5] * 10**5,
        [[""] * 10**5] * 10**5,
    ],
)
def test_few_bytes_of_many_characters(tmp_path, captions):
    (tmp_path / "raw-captions.pkl").write_bytes(pickle.dumps({"a": captions}))
    start = time.monotonic()
    with pytest.raises(
        ValueError, match="captions of more than 40,000,000 characters, which are not MSVD's;"
    ):
        read_pickled_captions(tmp_path / "raw-captions.pkl")
    assert time.monotonic() - start < 30


def test_captions_without_words_stay(tmp_path):
    (tmp_path / "raw-captions.pkl").write_bytes(pickle.dumps({"a": [], "b": [[], ["x"]]}))
    assert read_pickled_captions(tmp_path / "raw-captions.pkl") == {"a": (), "b": ("", "x")}


def test_refused_files_are_named_through_the_reader(tmp_path):
    write_lines(tmp_path / "test_list.txt", ["a"])
    (tmp_path / "raw-captions.pkl").write_bytes(pickle.dumps(Attack(os.getcwd)))
    with pytest.raises(ValueError, match=r"raw-captions.pkl` can't be read .* or use captions_msvd.json"):
        read_split(PUBLISHED["msvd"], tmp_path, "test")


def test_frozensets_are_refused(tmp_path):
    (tmp_path / "raw-captions.pkl").write_bytes(pickle.dumps({frozenset({"a"}): [["b"]]}, protocol=4))
    with pytest.raises(ValueError, match="it holds a frozenset, and only lists are read"):
        read_pickled_captions(tmp_path / "raw-captions.pkl")
