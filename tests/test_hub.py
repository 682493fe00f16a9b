"""The release folder: what is in it, and that it works alone, in a fresh process."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from toys import make_model, make_processor, make_records

from fpig.datasets import CaptionedSplit
from fpig.evaluation import describe_results, evaluate_retrieval
from fpig.hub import write_release
from modeling_fpig import FPigModel
from processing_fpig import FPigProcessor

ROOT = Path(__file__).parents[1]
CARD_TEMPLATE = ROOT / "model_card.md"
CODE_FILES = {
    path.name
    for package in ("modeling_fpig", "processing_fpig")
    for path in (ROOT / package).glob("*_fpig.py")
}
QUERIES = ["a red circle moves left", "again again again a blue square blinks", "grows"]
# Where a package is blocked, importing it raises ImportError and looking for it finds nothing.
FRESH_PROCESS = """
import sys
import importlib.abc


class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"{name} is blocked", name=name)


folder, clips, output, *BLOCKED = sys.argv[1:]
sys.meta_path.insert(0, Blocker())

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoProcessor

torch.set_num_threads(1)
model = AutoModel.from_pretrained(folder, trust_remote_code=True).eval()
processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
inputs = load_file(clips)
with torch.inference_mode():
    text = processor(text=QUERIES, return_tensors="pt")
    paths = [f"clips/{index}.mp4" for index in range(3)]
    videos = processor(videos=paths, return_tensors="pt")
    arrays = processor(videos=[inputs["clip"].numpy()], return_tensors="pt")
    save_file(
        {
            "text_embeds": model.encode_text(**text),
            "video_embeds": model.encode_video(**videos),
            "array_embeds": model.encode_video(**arrays),
        },
        output,
    )
print(type(model).__module__, type(processor).__module__)
print(sorted(name for name in ("PIL", "torchvision", "fpig", "modeling_fpig") if name in sys.modules))
"""


@pytest.fixture(scope="module")
def processor():
    return make_processor()


@pytest.fixture(scope="module")
def model(processor):
    return make_model(processor)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return make_records(tmp_path_factory.mktemp("clips"), num_videos=7)


@pytest.fixture(scope="module")
def results(model, processor, records):
    split = CaptionedSplit("org/toys", "test", records)
    return describe_results(evaluate_retrieval(model, processor, records), split)


@pytest.fixture(scope="module")
def release(tmp_path_factory, model, processor, results):
    folder = tmp_path_factory.mktemp("outputs") / "fpig-toy"
    write_release(folder, model, processor, results, CARD_TEMPLATE)
    return folder


def test_release_holds_exactly_what_a_repository_needs(release):
    weights_and_configs = {"model.safetensors", "config.json", "processor_config.json"}
    tokenizer = {"tokenizer.json", "tokenizer_config.json"}
    assert len(CODE_FILES) > 10
    assert {path.name for path in release.iterdir()} == {
        *weights_and_configs,
        *tokenizer,
        *CODE_FILES,
        *("README.md", "results.json", ".eval_results"),
        *("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json", "1_Normalize"),
    }
    for package in ("modeling_fpig", "processing_fpig"):
        for path in (ROOT / package).glob("*_fpig.py"):
            assert (release / path.name).read_bytes() == path.read_bytes()


def test_weights_are_all_there(release, model):
    torch.testing.assert_close(
        load_file(release / "model.safetensors"), dict(model.state_dict()), rtol=0, atol=0
    )


def test_results_are_written_as_measured(release, results):
    assert json.loads((release / "results.json").read_text()) == results


@pytest.fixture(scope="module")
def away(release, records, tmp_path_factory):
    """A folder far from the project with a copy of the release, clips, and the embeddings to expect."""
    folder = tmp_path_factory.mktemp("elsewhere")
    shutil.copytree(release, folder / "copied")
    (folder / "clips").mkdir()
    for index, record in enumerate(records[:3]):
        shutil.copy(record.video, folder / "clips" / f"{index}.mp4")
    generator = torch.Generator().manual_seed(2)
    clip = torch.randint(0, 256, (5, 40, 30, 3), dtype=torch.uint8, generator=generator)
    save_file({"clip": clip}, folder / "clip.safetensors")
    return folder


def run_away(away, code, *arguments):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"HF_HUB_OFFLINE": "1", "HF_HOME": str(away / "home"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, *arguments],
        cwd=away,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_fresh_processes_give_the_same_embeddings(away, release):
    """Twice without this project, the second time without Pillow and torchvision too; to the last bit."""
    model = FPigModel.from_pretrained(release).eval()
    processor = FPigProcessor.from_pretrained(release)
    code = f"QUERIES = {QUERIES!r}\n{FRESH_PROCESS}"
    project = ("fpig", "modeling_fpig", "processing_fpig", "video_retrieval")
    embeds = {}
    for name, more in (("first", ()), ("second", ("PIL", "torchvision"))):
        arguments = ("copied", "clip.safetensors", f"{name}.safetensors", *project, *more)
        modules, imported = run_away(away, code, *arguments).splitlines()[-2:]
        assert all(module.startswith("transformers_modules.copied") for module in modules.split())
        assert "fpig" not in imported
        if more:
            assert imported == "[]"
        embeds[name] = load_file(away / f"{name}.safetensors")
    torch.testing.assert_close(embeds["first"], embeds["second"], rtol=0, atol=0)

    clip = load_file(away / "clip.safetensors")["clip"].numpy()
    paths = [str(away / "clips" / f"{index}.mp4") for index in range(3)]
    with torch.inference_mode():
        here = {
            "text_embeds": model.encode_text(**processor(text=QUERIES)),
            "video_embeds": model.encode_video(**processor(videos=paths)),
            "array_embeds": model.encode_video(**processor(videos=[clip])),
        }
    torch.testing.assert_close(embeds["first"], here, rtol=0, atol=0)
    assert len(here["video_embeds"].unique(dim=0)) == 3


def test_installed_processor_loads_a_release_without_a_question(away):
    """transformers would ask whether the model's code may run, to make a tokenizer that has none."""
    code = (
        "from processing_fpig import FPigProcessor; print(FPigProcessor.from_pretrained('copied').max_length)"
    )
    assert run_away(away, code) == "20\n"


def test_cards_examples_run_as_printed(away):
    shutil.copytree(away / "copied", away / "fpig-toy")
    for name in ("a.mp4", "b.mp4"):
        shutil.copy(away / "clips" / "0.mp4", away / name)
    card = (away / "fpig-toy" / "README.md").read_text()
    ours, sentence_transformers = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    printed = [
        re.search(r"tensor\(\[\[(0?-?\d?\.\d+), +(-?\d?\.\d+)\]\]", run_away(away, code)).groups()
        for code in (ours, sentence_transformers)
    ]
    assert printed[0] == printed[1]
