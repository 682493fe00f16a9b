"""The model card: its numbers, its metadata and what it says of each kind of model."""

import copy
import json
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard, parse_eval_result_entries
from huggingface_hub.repocard_data import model_index_to_eval_results
from toys import make_model, make_records

from fpig.card import copy_method_figure, write_model_card
from fpig.datasets import CaptionedSplit
from fpig.evaluation import describe_results, evaluate_retrieval
from fpig.hub import write_release
from fpig.training_args import DataArguments, FPigTrainingArguments, ModelArguments
from fpig.training_record import Hardware, describe_training

ROOT = Path(__file__).parents[1]
CARD_TEMPLATE = ROOT / "model_card.md"
METHOD_FIGURE = ROOT / "docs" / "method.png"
METRICS = ("R@1", "R@5", "R@10", "SumR", "MdR", "MnR")
TITLES = {
    "t2v": "text → video",
    "v2t": "video → text",
    "v2t_caption_pool": "video → text, caption pool",
}
SECTIONS = (
    *("Use", "Intended use", "Method", "Results", "Training", "Hardware, time and energy"),
    *("Limits and biases", "Licence and citation"),
)
HARDWARE = Hardware("GPU", "NVIDIA H200", 8, 8, 700.0)


@pytest.fixture(scope="module")
def results(model, processor, tmp_path_factory):
    """A real evaluation of the tiny model, with the record of a run that could have made it."""
    folder = tmp_path_factory.mktemp("run")
    records = make_records(folder, num_videos=7)
    stages = (("generator", 1.5, 2.5e-4, 17, 61.27), ("joint", 3, 1e-6, 33, 1234.56))
    for name, num_epochs, learning_rate, num_steps, seconds in stages:
        record = {"name": name, "num_epochs": num_epochs, "learning_rate": learning_rate}
        record |= {"num_steps": num_steps, "seconds": seconds, "hardware": asdict(HARDWARE)}
        (folder / name).mkdir()
        (folder / name / "training.json").write_text(json.dumps(record))
    args = FPigTrainingArguments(output_dir=str(folder / "out"), use_cpu=True, seed=9, weight_decay=0.3)
    training = describe_training(
        (ModelArguments(), DataArguments(dataset="toys"), args),
        {name: CaptionedSplit("toys", name, records[:end]) for name, end in (("train", 7), ("test", 4))},
        [folder / "generator", folder / "joint"],
        model.config,
        processor,
    )
    split = CaptionedSplit("toys", "test", records)
    measured = describe_results(evaluate_retrieval(model, processor, records), split)
    return measured | {"training": training}


@pytest.fixture(scope="module")
def write_card(processor, tmp_path_factory):
    """`write_card(results, pooling, …)` → the folder with the card."""

    def write(results, pooling="pseudo_query", name="fpig-toy", with_figure=True, fields=(), **keywords):
        folder = tmp_path_factory.mktemp("outputs") / name
        folder.mkdir()
        config = make_model(processor, video_pooling=pooling, **dict(fields)).config
        if with_figure:
            copy_method_figure(folder, config, METHOD_FIGURE)
        write_model_card(folder, config, processor, results, CARD_TEMPLATE, **keywords)
        return folder

    return write


@pytest.fixture(scope="module")
def folder(write_card, results):
    return write_card(results)


@pytest.fixture(scope="module")
def card(folder):
    return ModelCard.load(folder / "README.md")


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"use_interaction": False}, "an ablation: the pseudo-query attends over nothing, and is itself"),
        ({"num_selected_tokens": 0}, "an ablation: the generator reads no selected patches."),
    ],
)
def test_card_of_an_ablation_says_what_is_left_out(write_card, card, results, fields, sentence):
    folder = write_card(results, fields=fields)
    method = read_section((folder / "README.md").read_text(), "Method")
    assert sentence in method
    assert not (folder / "method.png").exists()
    assert "method.png" not in method
    assert "ablation" not in card.content


def read_section(text, title):
    return re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE).group(1).strip()


def collect_values(tree):
    """Every number and string of nested lists and mappings."""
    if isinstance(tree, dict | list):
        children = tree.values() if isinstance(tree, dict) else tree
        return [value for child in children for value in collect_values(child)]
    return [tree]


def find_strangers(text, results):
    """The numbers of `text` that `results` does not have, rounded as printed."""
    values = collect_values(results)
    strings = " ".join(value for value in values if isinstance(value, str))
    known = set(re.findall(r"\d+(?:\.\d+)?", strings))
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    # Names of metrics, settings, data types and cards are no numbers.
    text = re.sub(r"R@\d+|`[^`]*`|\b[a-zA-Z_]+\d+\b|\(http[^)]*\)", "", text)
    strangers = []
    for found in re.findall(r"(?<![\w.])\d+(?:\.\d+)?(?:e-?\d+)?", text):
        digits = len(found.partition(".")[2].partition("e")[0])
        is_rounded = any(f"{value:.{digits}f}" == found or f"{value:g}" == found for value in numbers)
        if not is_rounded and found not in known:
            strangers.append(found)
    return strangers


@pytest.mark.parametrize("title", ["Results", "Training", "Hardware, time and energy"])
def test_every_number_is_one_of_the_results(card, results, title):
    section = read_section(card.text, title)
    assert len(re.findall(r"\d", section)) > 10
    assert find_strangers(section, results) == []
    assert find_strangers(f"{section} 98.7", results) == ["98.7"]


def test_results_table_has_all_protocols(card, results):
    section = read_section(card.text, "Results")
    rows = []
    for direction, title in TITLES.items():
        numbers = [f"{results['metrics'][f'{direction}_{name}']:.1f}" for name in METRICS]
        rows.append(numbers)
        assert f"\n| {title} | {' | '.join(numbers)} |" in section
        assert f"- **{title}**: {results['protocol'][direction]}." in section
    assert len({tuple(row) for row in rows}) == 3
    assert f"Ties: {results['protocol']['ties']}." in section
    assert f"`toys`, split `test`: {results['num_captions']} captions, 7 videos." in section


def test_training_is_told(card):
    section = read_section(card.text, "Training")
    assert "Data: `toys` (train: 7 videos with 13 captions, test: 4 videos with 7 captions)." in section
    assert "Start: random weights." in section
    assert "\n| generator | 1.5 | 17 | 0.00025 |\n| joint | 3 | 33 | 1e-06 |\n" in section
    for row in ("`seed` | 9", "`weight_decay` | 0.3", "`num_selected_tokens` | 5", "`num_frames` | 4"):
        assert f"\n| {row} |" in section
    assert "`settings.yaml`" in section


def test_resources_are_told(card):
    section = read_section(card.text, "Hardware, time and energy")
    assert "- Hardware: NVIDIA H200, GPUs: 8, processes: 8.\n" in section
    assert "- Time: 1295.8 s (0.36 h): generator 61.3 s, joint 1234.6 s.\n" in section
    # 8 × 700 W × 1295.83 s / 3600
    assert "- Energy: about 2015.74 Wh: GPUs × the power limit of their boards × time" in section


def test_unknown_power_is_not_guessed(write_card, results):
    changed = copy.deepcopy(results)
    changed["training"]["energy"] = {"watt_hours": None, "estimate": "the power of Board X is not known"}
    section = read_section((write_card(changed) / "README.md").read_text(), "Hardware, time and energy")
    assert "- Energy: not estimated: the power of Board X is not known." in section
    assert "Wh" not in section


def test_metadata(card):
    assert card.data.library_name == "transformers"
    assert card.data.pipeline_tag == "feature-extraction"
    assert card.data.license == "apache-2.0"
    tags = {"custom_code", "video-text-retrieval", "text-to-video-retrieval", "sentence-transformers"}
    assert tags <= set(card.data.tags)
    metadata = card.data.to_dict()
    assert not {"language", "base_model", "base_model_relation", "datasets"} & metadata.keys()


def test_metadata_names_what_is_known(write_card, results):
    known = copy.deepcopy(results) | {"dataset": "friend/clips"}
    known["training"]["language"] = "en"
    folder = write_card(known, repository="someone/fpig-clips", base_model="openai/clip-vit-base-patch32")
    card = ModelCard.load(folder / "README.md")
    assert card.data.language == "en"
    assert card.data.datasets == ["friend/clips"]
    assert card.data.base_model == "openai/clip-vit-base-patch32"
    assert card.data.base_model_relation == "finetune"
    assert card.data.model_name == "fpig-clips"
    assert "\n# fpig-clips\n" in card.text
    assert card.text.count('from_pretrained("someone/fpig-clips", trust_remote_code=True)') == 2
    assert 'SentenceTransformer("someone/fpig-clips", trust_remote_code=True)' in card.text
    assert "[`openai/clip-vit-base-patch32`](https://huggingface.co/openai/clip-vit-base" in card.text
    assert "trained on English captions" in card.text


def test_index_has_the_measured_numbers_of_all_protocols(card, folder, results):
    _, header, _ = (folder / "README.md").read_text().split("---\n", 2)
    name, entries = model_index_to_eval_results(yaml.safe_load(header)["model-index"])
    assert name == "fpig-toy"
    assert entries == card.data.eval_results
    found = {entry.metric_name: entry.metric_value for entry in entries}
    assert found == {
        f"{title} {metric}": results["metrics"][f"{direction}_{metric}"]
        for direction, title in TITLES.items()
        for metric in METRICS
    }
    assert len(set(found.values())) >= 8
    tasks = {entry.metric_name: entry.task_type for entry in entries}
    assert tasks["text → video R@1"] == "text-to-video-retrieval"
    assert tasks["video → text R@1"] == tasks["video → text, caption pool R@1"] == "video-to-text-retrieval"
    assert {(entry.dataset_type, entry.dataset_name, entry.dataset_split) for entry in entries} == {
        ("toys", "toys (test)", "test")
    }


def read_eval_results(folder):
    (path,) = (folder / ".eval_results").iterdir()
    return path.name, parse_eval_result_entries(yaml.safe_load(path.read_text()))


def test_eval_results_have_the_measured_numbers(write_card, results):
    name, entries = read_eval_results(write_card(results | {"dataset": "shapes"}))
    assert name == "shapes.yaml"
    keys = [f"{direction}_{metric}" for direction in TITLES for metric in METRICS]
    assert {entry.task_id: entry.value for entry in entries} == {key: results["metrics"][key] for key in keys}
    assert len(entries) == len(keys)
    for entry in entries:
        assert (entry.dataset_id, entry.date, entry.source_url) == ("shapes", results["date"], None)
        direction = entry.task_id.rpartition("_")[0]
        assert entry.notes.startswith(f"split test; {results['protocol'][direction]}; ties: ")


def test_eval_results_of_a_repository_name_their_source(write_card, results):
    folder = write_card(results | {"dataset": "friend/clips"}, repository="someone/fpig-clips")
    name, entries = read_eval_results(folder)
    assert name == "clips.yaml"
    assert {entry.dataset_id for entry in entries} == {"friend/clips"}
    assert all(
        entry.source_url.endswith("/someone/fpig-clips/resolve/main/results.json") for entry in entries
    )


def test_dataset_that_no_repository_can_be_called_has_no_eval_results(write_card, results):
    for dataset in ("my clips.csv", "my.csv", "toys"):  # the last two would name somebody else's
        folder = write_card(results | {"dataset": dataset})
        assert not (folder / ".eval_results").exists()
        assert len(ModelCard.load(folder / "README.md").data.eval_results) == 18


def test_without_results_the_card_says_so(write_card):
    for nothing in (None, {}):
        folder = write_card(nothing)
        card = ModelCard.load(folder / "README.md")
        for title in ("Results", "Training", "Hardware, time and energy"):
            assert read_section(card.text, title) == "Not measured."
        assert not card.data.eval_results
        assert "model-index" not in card.content
        assert not (folder / ".eval_results").exists()


def test_training_without_a_test_split_is_told(write_card, results):
    card = ModelCard.load(write_card({"training": results["training"]}) / "README.md")
    assert read_section(card.text, "Results") == "Not measured."
    assert "| joint | 3 | 33 | 1e-06 |" in read_section(card.text, "Training")
    assert "2015.74 Wh" in card.text


def test_progress_stands_at_the_top(write_card, card):
    sentence = "Training in progress: stage joint, step 40 of 120"
    text = ModelCard.load(write_card(None, progress=sentence) / "README.md").text
    assert f"# fpig-toy\n\n> **{sentence}.** " in text
    assert "> **" not in card.text


@pytest.mark.parametrize("pooling", ["pseudo_query", "class_token", "mean"])
@pytest.mark.parametrize("measured", [True, False])
def test_card_is_whole(write_card, results, pooling, measured):
    """All sections, in order; nothing of the template's language left; no gap where a part was left out."""
    text = ModelCard.load(write_card(results if measured else None, pooling) / "README.md").text
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == list(SECTIONS)
    assert all(read_section(text, title) for title in SECTIONS)
    for leftover in ("{{", "{%", "}}", "%}", "None", "Undefined", "\n\n\n"):
        assert leftover not in text
    assert ("Not measured." in text) is not measured
    assert not re.search(r"\S\n## |^## .*\n\S|\S\n\|[^\n]*\|\n\| ---", text, re.MULTILINE)  # blank lines


def test_processors_numbers_are_told(card):
    assert re.search(
        r"takes 4 frames of a video, .* at 24×24\s+pixels, and captions of up to 20 tokens", card.text
    )


def test_figure_is_f_pigs_alone(write_card, folder, card):
    assert "](method.png)" in read_section(card.text, "Method")
    assert (folder / "method.png").read_bytes() == METHOD_FIGURE.read_bytes()
    assert "method.png" not in (write_card(None, with_figure=False) / "README.md").read_text()
    for pooling in ("class_token", "mean"):
        baseline = write_card(None, pooling)
        assert not (baseline / "method.png").exists()
        assert "method.png" not in (baseline / "README.md").read_text()


def test_figure_is_small_enough_for_a_card():
    assert METHOD_FIGURE.read_bytes().startswith(b"\x89PNG")
    assert METHOD_FIGURE.stat().st_size < 200_000


def test_figure_is_what_its_script_draws(tmp_path):
    """Of the same size, that is: another matplotlib may set its letters a little differently."""
    pytest.importorskip("matplotlib")
    command = [sys.executable, str(ROOT / "docs" / "draw_method.py"), str(tmp_path / "drawn.png")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    drawn, committed = (tmp_path / "drawn.png").read_bytes(), METHOD_FIGURE.read_bytes()
    assert drawn[:24] == committed[:24]  # the header ends with width and height
    assert 0.8 < len(drawn) / len(committed) < 1.25


def test_baselines_cards_do_not_pass_for_f_pigs(write_card, card):
    assert "It is\n[F-Pig](https://arxiv.org/abs/2509.04773)" in card.text
    for pooling, name, url in (
        ("class_token", "the CLIP-ViP two-tower baseline of F-Pig", "https://arxiv.org/abs/2209.06430"),
        ("mean", "the CLIP4Clip mean-pooling baseline of F-Pig", "https://arxiv.org/abs/2104.08860"),
    ):
        text = (write_card(None, pooling) / "README.md").read_text()
        assert f"It is\n[{name}]({url})" in text
        assert "There is no\npseudo-query" in text or "There is no pseudo-query" in text


def test_release_hands_everything_to_the_card(model, processor, results, tmp_path):
    write_release(
        tmp_path / "run",
        model,
        processor,
        results,
        CARD_TEMPLATE,
        repository="someone/else",
        base_model="openai/clip-vit-base-patch32",
        method_figure=METHOD_FIGURE,
    )
    card = ModelCard.load(tmp_path / "run" / "README.md")
    assert 'from_pretrained("someone/else"' in card.text
    assert "](method.png)" in card.text
    assert card.data.base_model == "openai/clip-vit-base-patch32"
    assert json.loads((tmp_path / "run" / "results.json").read_text()) == results
