"""F-Pig in sentence-transformers, as its users load any model: from a folder and by name, text and video."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hub_server import Blob
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize
from test_hub import run_away
from toys import make_model, make_records
from transformers import pipeline

from fpig.hub import write_release
from fpig.sentence_transformers_files import SENTENCE_TRANSFORMERS_FILES
from processing_fpig.decoding_fpig import read_frames

CARD_TEMPLATE = Path(__file__).parents[1] / "model_card.md"
CAPTIONS = ["grows", "a red circle moves left", "again " * 40 + "a blue square blinks", "two balls rise"]
PROJECT = ("fpig", "modeling_fpig", "processing_fpig", "video_retrieval")
# What is hidden is as if it were not installed: importing it fails, and looking for it finds nothing.
FRESH_PROCESS = """
import sys


class HidingFinder:
    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        is_hidden = name.partition(".")[0] in HIDDEN
        return None if is_hidden else self.finder.find_spec(name, path, target)


name, revision, output, *HIDDEN = sys.argv[1:]
sys.meta_path[:] = [HidingFinder(finder) for finder in sys.meta_path]

import torch
from safetensors.torch import save_file
from sentence_transformers import SentenceTransformer

torch.set_num_threads(1)
model = SentenceTransformer(name, revision=revision or None, trust_remote_code=True)
videos = [{"video": f"clips/{index}.mp4"} for index in range(3)]
embeds = {"text": model.encode(CAPTIONS), "video": model.encode(videos)}
save_file({name: torch.from_numpy(value) for name, value in embeds.items()}, output)
print(type(model[0].model).__module__)
print(sorted(name for name in ("PIL", "torchvision", "fpig", "modeling_fpig") if name in sys.modules))
"""


@pytest.fixture(scope="module")
def encoder(release):
    return SentenceTransformer(str(release), device="cpu", trust_remote_code=True)


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    return [record.video for record in make_records(tmp_path_factory.mktemp("clips"), num_videos=5)]


@pytest.fixture(scope="module")
def text_embeds(model, processor):
    with torch.inference_mode():
        return model.encode_text(**processor(text=CAPTIONS)).numpy()


@pytest.fixture(scope="module")
def video_embeds(model, processor, paths):
    with torch.inference_mode():
        return model.encode_video(**processor(videos=paths)).numpy()


def assert_equal(embeds, expected):
    np.testing.assert_allclose(np.asarray(embeds), expected, rtol=0, atol=1e-6)


def read_json_files(folder):
    files = {name: json.loads((folder / name).read_text()) for name in SENTENCE_TRANSFORMERS_FILES}
    files["config_sentence_transformers.json"].pop("__version__", None)
    return files


def test_captions(encoder, text_embeds, processor):
    assert np.abs(text_embeds[0] - text_embeds[1]).max() > 0.01
    for encode in (encoder.encode, encoder.encode_query, encoder.encode_document):
        assert_equal(encode(CAPTIONS), text_embeds)
    assert_equal(encoder.encode(CAPTIONS, batch_size=3), text_embeds)
    assert_equal(encoder.encode(CAPTIONS[1]), text_embeds[1])
    tensor = encoder.encode(CAPTIONS, convert_to_tensor=True)
    assert isinstance(tensor, torch.Tensor)
    assert_equal(tensor, text_embeds)
    assert encoder.max_seq_length == processor.max_length == 20
    assert encoder.get_embedding_dimension() == text_embeds.shape[1]


def test_captions_are_cut_where_the_user_says(release, model, processor):
    encoder = SentenceTransformer(str(release), device="cpu", trust_remote_code=True)
    encoder.max_seq_length = 5
    with torch.inference_mode():
        expected = model.encode_text(**processor(text=CAPTIONS, max_length=5)).numpy()
        whole = model.encode_text(**processor(text=CAPTIONS)).numpy()
    assert np.abs(expected - whole).max() > 0.01
    assert_equal(encoder.encode(CAPTIONS), expected)


def read_all_frames(path):
    return read_frames(path, lambda num_frames: list(range(num_frames))).numpy()


# A video in each way that sentence-transformers takes for one.
FORMS = {
    "path": lambda path: path,
    "content": lambda path: {"video": Path(path).read_bytes()},
    "array": read_all_frames,
    "tensor": lambda path: torch.from_numpy(read_all_frames(path)).permute(0, 3, 1, 2),
    "array with metadata": lambda path: {"array": read_all_frames(path), "video_metadata": {"fps": 8}},
    "named path": lambda path: {"video": path},
    "named Path": lambda path: {"video": Path(path)},
    "named array": lambda path: {"video": read_all_frames(path)},
    "list of pictures": lambda path: {"video": list(read_all_frames(path))},
    "of datasets": lambda path: {"array": {"bytes": None, "path": path}, "video_metadata": None},
}


@pytest.mark.parametrize("form", FORMS)
def test_videos(encoder, paths, video_embeds, form):
    videos = [FORMS[form](path) for path in paths]
    assert_equal(encoder.encode(videos), video_embeds)
    assert_equal(encoder.encode_document(videos, batch_size=2), video_embeds)


def test_one_batch_takes_videos_in_several_forms(encoder, paths, video_embeds):
    videos = [form(path) for form, path in zip(list(FORMS.values())[-len(paths) :], paths, strict=True)]
    assert_equal(encoder.encode(videos), video_embeds)


def test_videos_are_found(encoder, paths, text_embeds, video_embeds):
    similarities = encoder.similarity(encoder.encode_query(CAPTIONS), encoder.encode_document(paths))
    assert_equal(similarities, text_embeds @ video_embeds.T)
    assert encoder.similarity_fn_name == "cosine"


@pytest.mark.parametrize("video_pooling", ["class_token", "mean"])
def test_baselines(processor, paths, tmp_path, video_pooling):
    model = make_model(processor, video_pooling=video_pooling)
    write_release(tmp_path / "baseline", model, processor, None, CARD_TEMPLATE)
    encoder = SentenceTransformer(str(tmp_path / "baseline"), device="cpu", trust_remote_code=True)
    with torch.inference_mode():
        assert_equal(encoder.encode(paths), model.encode_video(**processor(videos=paths)))


def test_what_is_no_video_says_so(encoder, paths, tmp_path):
    gone = r"can't read the video `.*gone\.mp4`: there is no such file"
    with pytest.raises(ValueError, match=gone) as caught:
        encoder.encode([{"video": paths[0]}, {"video": str(tmp_path / "gone.mp4")}])
    assert type(caught.value).__name__ == "VideoReadError"  # that of the release's own code
    assert caught.value.path == str(tmp_path / "gone.mp4")
    # Not by itself: sentence-transformers takes it for text, as the model card warns.
    text = str(tmp_path / "gone.mp4")
    assert_equal(encoder.encode([text]), encoder.encode([{"text": text}]))
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(Path(paths[0]).read_bytes()[:900])
    with pytest.raises(ValueError, match=rf"can't read the video `{bad}`"):
        encoder.encode([paths[0], str(bad)])


def test_files_are_those_that_sentence_transformers_saves(encoder, release, paths, tmp_path):
    """Put together of its own modules, without a look at our files; and a copy that it saves works alone."""
    bare = shutil.copytree(release, tmp_path / "bare")
    for name in SENTENCE_TRANSFORMERS_FILES:
        (bare / name).unlink()
    transformer = SentenceTransformer(str(bare), device="cpu", trust_remote_code=True)[0]
    SentenceTransformer(modules=[transformer, Normalize()]).save_pretrained(str(tmp_path / "composed"))
    assert read_json_files(tmp_path / "composed") == read_json_files(release) == SENTENCE_TRANSFORMERS_FILES

    encoder.save_pretrained(str(tmp_path / "saved"))
    for path in release.glob("*_fpig.py"):
        assert (tmp_path / "saved" / path.name).read_bytes() == path.read_bytes()
    again = SentenceTransformer(str(tmp_path / "saved"), device="cpu", trust_remote_code=True)
    for inputs in (CAPTIONS, paths):
        np.testing.assert_array_equal(again.encode(inputs), encoder.encode(inputs))


@pytest.fixture(scope="module")
def away(release, paths, tmp_path_factory):
    """A folder far from the project with a copy of the release and three clips."""
    folder = tmp_path_factory.mktemp("elsewhere")
    shutil.copytree(release, folder / "copied")
    (folder / "clips").mkdir()
    for index in range(3):
        shutil.copy(paths[index], folder / "clips" / f"{index}.mp4")
    return folder


def test_fresh_process_without_project_pillow_and_torchvision(away, text_embeds, video_embeds):
    hidden = (*PROJECT, "PIL", "torchvision")
    code = f"CAPTIONS = {CAPTIONS!r}\n{FRESH_PROCESS}"
    module, imported = run_away(away, code, "copied", "", "embeds.safetensors", *hidden).splitlines()[-2:]
    assert module.startswith("transformers_modules.copied")
    assert imported == "[]"
    embeds = load_file(away / "embeds.safetensors")
    assert_equal(embeds["text"], text_embeds)
    assert_equal(embeds["video"], video_embeds[:3])


def test_by_name_and_revision(hub, release, away, text_embeds, video_embeds):
    files = {
        str(path.relative_to(release)): path.read_bytes() for path in release.rglob("*") if path.is_file()
    }
    repository = hub.add_repository("models", "org/toy", files)
    revision = repository.branches["main"].sha
    weights = load_file(release / "model.safetensors")
    save_file({name: value + 0.1 for name, value in weights.items()}, away / "later.safetensors")
    later = Blob((away / "later.safetensors").read_bytes(), False)
    files = repository.branches["main"].files | {"model.safetensors": later}
    hub.add_commit(repository, "main", "later", files)

    environment = hub.make_environment(str(away / "hub_home"), token=None)
    environment.pop("PYTHONPATH", None)
    code = f"CAPTIONS = {CAPTIONS!r}\n{FRESH_PROCESS}"
    command = [sys.executable, "-P", "-c", code, "org/toy", revision, "named.safetensors", *PROJECT]
    done = subprocess.run(
        command, env=environment, cwd=away, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("transformers_modules.org.")
    embeds = load_file(away / "named.safetensors")
    assert_equal(embeds["text"], text_embeds)
    assert_equal(embeds["video"], video_embeds[:3])


def test_pipeline_of_texts_alone_is_refused(release):
    """As the model card says."""
    embed = pipeline("feature-extraction", model=str(release), trust_remote_code=True, device="cpu")
    with pytest.raises(ValueError, match="`pixel_values` is None; pass frames, or call `encode_text`"):
        embed("a red circle moves left")
