"""The list of wrong versions stays true to the code; `python tests/mutations.py` runs all of it."""

import ast

import pytest
from mutations import MUTATIONS, ROOT, copy_project, is_caught

RUN_FOR_REAL = "captions detached in the generation loss"


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_snippet_and_test_still_exist(mutation):
    source = (ROOT / mutation.file).read_text(encoding="utf-8")
    assert source.count(mutation.original) == 1, f"adapt the snippet to {mutation.file}"
    assert mutation.wrong != mutation.original
    ast.parse(source.replace(mutation.original, mutation.wrong))
    test_file, _, test_name = mutation.test.partition("::")
    functions = ast.parse((ROOT / test_file).read_text(encoding="utf-8")).body
    assert test_name in {node.name for node in functions if isinstance(node, ast.FunctionDef)}


def test_list_is_long_and_has_no_doubles():
    assert len(MUTATIONS) >= 25
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS)
    assert len({(mutation.file, mutation.original, mutation.wrong) for mutation in MUTATIONS}) == len(
        MUTATIONS
    )


def test_a_wrong_version_is_caught(tmp_path):
    copy_project(tmp_path)
    (chosen,) = (mutation for mutation in MUTATIONS if mutation.name == RUN_FOR_REAL)
    assert is_caught(chosen, tmp_path)
