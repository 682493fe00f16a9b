"""The house rules that ruff does not know, and ruff itself."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HUB_FOLDERS = ("modeling_fpig", "processing_fpig")
LIBRARY_FOLDERS = (*HUB_FOLDERS, "fpig", "metrics/video_retrieval")
SCRIPTS = sorted(path.name for path in ROOT.glob("*.py"))
SOURCES = sorted(
    str(path.relative_to(ROOT))
    for folder in (*LIBRARY_FOLDERS, "benchmarks", "docs", "examples")
    for path in (ROOT / folder).rglob("*.py")
)
SOURCES += SCRIPTS
LIBRARY = [source for source in SOURCES if source.startswith(LIBRARY_FOLDERS)]
HUB_FILES = [
    source for source in SOURCES if source.startswith(HUB_FOLDERS) and not source.endswith("__init__.py")
]
PROJECT_PACKAGES = {"modeling_fpig", "processing_fpig", "video_retrieval", "metrics", "fpig"}
NO_ROOMS = {"utils", "util", "common", "base", "helpers", "misc", "registry", "factory", "legacy"}


def parse(source: str) -> ast.Module:
    return ast.parse((ROOT / source).read_text(encoding="utf-8"))


def find_nodes(source: str, *kinds: type) -> list[ast.AST]:
    return [node for node in ast.walk(parse(source)) if isinstance(node, kinds)]


def count_body_lines(function: ast.FunctionDef) -> int:
    body = function.body
    if isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        body = body[1:]
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


def count_parameters(function: ast.FunctionDef) -> int:
    arguments = function.args
    names = [argument.arg for argument in arguments.posonlyargs + arguments.args + arguments.kwonlyargs]
    return len([name for name in names if name not in ("self", "cls")])


@pytest.mark.parametrize("source", SOURCES)
def test_files_and_functions_are_short(source):
    num_lines = len((ROOT / source).read_text(encoding="utf-8").splitlines())
    assert num_lines <= 350, f"{source} has {num_lines} lines, 350 are allowed: split it"
    for function in find_nodes(source, ast.FunctionDef, ast.AsyncFunctionDef):
        place = f"{source}:{function.lineno} `{function.name}`"
        assert count_body_lines(function) <= 60, f"{place} has a body of more than 60 lines"
        assert count_parameters(function) <= 8, f"{place} has more than 8 parameters"


@pytest.mark.parametrize("source", SOURCES)
def test_every_module_says_what_it_is(source):
    text = (ROOT / source).read_text(encoding="utf-8")
    assert not text or ast.get_docstring(ast.parse(text)), f"{source} needs a docstring"


@pytest.mark.parametrize("source", SOURCES)
def test_configurations_are_read_by_attribute(source):
    for call in find_nodes(source, ast.Call):
        if isinstance(call.func, ast.Name) and call.func.id in ("hasattr", "getattr") and call.args:
            place = f"{source}:{call.lineno}"
            assert "config" not in ast.unparse(call.args[0]).lower(), f"{place} guesses what a config has"


@pytest.mark.parametrize("source", LIBRARY)
def test_library_code_asserts_nothing(source):
    lines = [node.lineno for node in find_nodes(source, ast.Assert)]
    assert not lines, f"{source} asserts in lines {lines}: raise an error that says what is wrong"


@pytest.mark.parametrize("source", SOURCES)
def test_errors_name_the_thing_in_backticks(source):
    """A message that shows a value says in backticks what has that value, or which command line option."""
    for node in find_nodes(source, ast.Raise):
        if not isinstance(node.exc, ast.Call):
            continue
        if ast.unparse(node.exc.func) not in ("ValueError", "TypeError"):
            continue
        place = f"{source}:{node.lineno}"
        assert node.exc.args, f"{place} raises an error without a message"
        message = node.exc.args[0]
        if isinstance(message, ast.JoinedStr | ast.Constant):
            texts = [part.value for part in ast.walk(message) if isinstance(part, ast.Constant)]
            assert "`" in "".join(str(text) for text in texts), f"{place} names nothing in backticks"


@pytest.mark.parametrize("source", SOURCES)
def test_no_room_for_everything(source):
    assert not NO_ROOMS & set(Path(source).with_suffix("").parts), f"{source}: name the one thing it holds"


@pytest.mark.parametrize("source", HUB_FILES)
def test_hub_files_import_only_what_travels_with_them(source):
    """transformers copies what a file's text imports as `from .x import y`, and nothing else."""
    folder = (ROOT / source).parent
    relative_imports = set()
    for node in find_nodes(source, ast.ImportFrom, ast.Import):
        place = f"{source}:{node.lineno}"
        if isinstance(node, ast.ImportFrom) and node.level:
            relative_imports.add(node.module)
            assert node.level == 1, f"{place} imports from a parent package"
            assert node.module, f"{place}: `from . import x` is not copied; write `from .x import y`"
            assert node.module.endswith("_fpig"), f"{place} imports a file that does not end in _fpig.py"
            assert (folder / f"{node.module}.py").is_file(), f"{place} imports a file that is not there"
        else:
            names = [node.module] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
            roots = {name.split(".")[0] for name in names}
            assert not roots & PROJECT_PACKAGES, f"{place} imports what a Hub repository does not have"
    text = (ROOT / source).read_text(encoding="utf-8")
    assert "TYPE_CHECKING" not in text, f"{source}: imports under TYPE_CHECKING are required all the same"
    written = set(re.findall(r"^\s*from\s+\.(\w+)\s+import", text, re.MULTILINE))
    assert written == relative_imports, f"{source}: a docstring's line looks like an import"


@pytest.mark.parametrize("source", HUB_FILES)
def test_hub_files_import_optional_packages_only_inside_try(source):
    """An import inside a function makes its package required to load the code; inside `try` it doesn't."""
    tree = parse(source)
    guarded = {id(child) for node in ast.walk(tree) if isinstance(node, ast.Try) for child in ast.walk(node)}
    for function in find_nodes(source, ast.FunctionDef):
        for line in [n.lineno for n in ast.walk(function) if isinstance(n, ast.Import | ast.ImportFrom)]:
            nodes = [n for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom)]
            assert all(id(node) in guarded for node in nodes if node.lineno == line), f"{source}:{line}"


def test_hub_files_fit_into_one_folder():
    names = [Path(source).name for source in HUB_FILES]
    assert len(names) > 10
    assert len(set(names)) == len(names), "two Hub files have one name; they land in one folder"
    assert [name for name in names if not name.endswith("_fpig.py")] == []


@pytest.mark.parametrize("source", [s for s in SOURCES if s.startswith("metrics/")])
def test_metric_files_import_one_package_a_line(source):
    """`evaluate` takes `import datasets, evaluate` for a package called `datasets,`."""
    for node in find_nodes(source, ast.Import, ast.ImportFrom):
        names = [alias.name for alias in node.names]
        if isinstance(node, ast.Import):
            assert len(names) == 1, f"{source}:{node.lineno} imports {names} in one line"
        roots = {name.split(".")[0] for name in ([node.module or ""] if "module" in node._fields else names)}
        is_relative = isinstance(node, ast.ImportFrom) and node.level
        assert is_relative or not roots & PROJECT_PACKAGES, f"{source}:{node.lineno} imports the project"


def test_nobodys_machine_is_mentioned():
    """A user has none of the folders in which the project is made."""
    words = ("/wor" + "k/", "/opt/fpi" + "genv", "../sha" + "red")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in listed.stdout.splitlines():
        path = ROOT / name
        if path.suffix in (".py", ".md", ".toml", ".yaml", ".yml", ".json", ".txt", "") and path.is_file():
            text = path.read_text(encoding="utf-8")
            found = [word for word in words if word in text]
            assert not found, f"{name} mentions {found}"


@pytest.mark.parametrize("arguments", [("check",), ("format", "--check")])
def test_ruff(arguments):
    command = [sys.executable, "-m", "ruff", *arguments, "--no-cache", str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
