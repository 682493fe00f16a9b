"""Every example as its docstring starts it: a real process, really encoded clips, a toy model."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import load_from_disk
from safetensors.torch import load_file
from toys import make_records
from transformers import GPT2Config, GPT2LMHeadModel

from fpig.embedding import embed_captions, embed_videos
from fpig.evaluation import evaluate_retrieval

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return make_records(tmp_path_factory.mktemp("clips"), num_videos=8)


@pytest.fixture(scope="module")
def table(records):
    """The clips as a csv: six for training, two for validation."""
    path = Path(records[0].video).parent / "my.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["video", "caption", "split"])
        for number, record in enumerate(records):
            for caption in record.captions:
                writer.writerow([record.video_id, caption, "train" if number < 6 else "validation"])
    return path


def run(name, *arguments, stdin="", environment=None):
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    done = subprocess.run(
        command, input=stdin, capture_output=True, text=True, timeout=180, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def rank(model, processor, records, query):
    """Scores by file, computed here."""
    embeds = embed_videos(model, processor, [record.video for record in records])
    scores = embeds @ embed_captions(model, processor, [query])[0]
    return sorted(zip(scores.tolist(), records, strict=True), key=lambda pair: -pair[0])


def test_every_example_is_tried():
    tried = set(re.findall(r'run\(\s*"(\w+\.py)"', Path(__file__).read_text()))
    assert {path.name for path in EXAMPLES.glob("*.py")} == tried


def test_search_your_own_folder(release, records, model, processor):
    queries = ["a red circle moves left", "two balls rise"]
    folder = Path(records[0].video).parent
    output = run(
        "search_folder.py", release, folder, "--top_k", 2, stdin="\n".join(queries) + "\n\nnever asked\n"
    )
    expected = ["8 videos. What are you looking for?"]
    for query in queries:
        best = rank(model, processor, records, query)[:2]
        expected += [f"{score:.3f}  {record.video}" for score, record in best]
    assert output.splitlines() == expected


def test_fine_tune_on_your_own_csv(release, table, tmp_path):
    output = run(
        "finetune_on_csv.py",
        *(release, table, tmp_path / "mine"),
        *("--epochs", 2, "--batch_size", 3, "--learning_rate", 1e-4),
    )
    assert re.search(r"validation R@1: [\d.]+ before, [\d.]+ after; written to .*mine\n$", output)
    before, after = (load_file(folder / "model.safetensors") for folder in (release, tmp_path / "mine"))
    assert before.keys() == after.keys()
    assert not torch.equal(before["visual_projection.weight"], after["visual_projection.weight"])
    names = {path.name for path in (tmp_path / "mine").iterdir()}
    assert {"modeling_fpig.py", "processing_fpig.py", "processor_config.json", "tokenizer.json"} <= names
    state = max((tmp_path / "mine-checkpoints").glob("checkpoint-*/trainer_state.json"))
    assert "eval_t2v_R@1" in json.dumps(json.loads(state.read_text())["log_history"])


def test_embed_a_data_set_and_push_it(hub, release, records, model, processor, tmp_path):
    folder = Path(records[0].video).parent
    environment = hub.make_environment(str(tmp_path / "home"))
    output = run(
        "embed_dataset.py",
        *(release, folder, tmp_path / "embedded", "--push_to_hub", "org/clips"),
        environment=environment,
    )
    assert output == f"8 videos, 40 numbers each: {tmp_path / 'embedded'}\nPushed to org/clips\n"
    dataset = load_from_disk(tmp_path / "embedded").with_format("torch")
    expected = embed_videos(model, processor, sorted(record.video for record in records))
    torch.testing.assert_close(torch.as_tensor(dataset["embeds"][:]), expected, rtol=0, atol=1e-6)
    assert hub.repositories["datasets", "org/clips"].private
    code = "from datasets import load_dataset as l; d = l('org/clips', split='train'); print(d['embeds'][7])"
    again = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert again.returncode == 0, again.stderr
    torch.testing.assert_close(
        torch.tensor(json.loads(again.stdout)), torch.as_tensor(dataset["embeds"][7]), rtol=0, atol=0
    )


def test_mteb_finds_what_we_find(release, table, records, model, processor):
    measured = dict(line.split() for line in run("evaluate_with_mteb.py", release, table).splitlines())
    ours = evaluate_retrieval(model, processor, records)
    assert 0 < ours.metrics["t2v_R@1"] < ours.metrics["t2v_R@5"] < 100
    expected = {f"recall_at_{cutoff}": ours.metrics[f"t2v_R@{cutoff}"] / 100 for cutoff in (1, 5, 10)}
    expected["hit_rate_at_1"] = expected["recall_at_1"]
    expected["ndcg_at_10"] = (1 / np.log2(1 + ours.ranks.t2v)).mean()  # of 8 videos none ranks below 10
    assert {name: float(value) for name, value in measured.items()} == pytest.approx(expected, abs=1e-5)


def test_answer_with_videos(release, table, records, model, processor):
    question = "which video has a green star"
    output = run("answer_with_videos.py", release, table, "--top_k", 2, stdin=f"{question}\n")
    best = [record for _, record in rank(model, processor, records, question)[:2]]
    lines = output.splitlines()
    assert lines[1:3] == [f"- {record.video_id}: {record.captions[0]}" for record in best]
    assert lines[-2:] == [f"Question: {question}", "Answer:"]


def test_answer_with_videos_and_a_language_model(release, table, processor, tmp_path):
    config = GPT2Config(vocab_size=len(processor.tokenizer), n_positions=512, n_embd=8, n_layer=1, n_head=1)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "language_model")
    processor.tokenizer.save_pretrained(tmp_path / "language_model")
    arguments = (release, table, "--top_k", 1, "--language_model", tmp_path / "language_model")
    output = run("answer_with_videos.py", *arguments, stdin="which video has a green star\n")
    assert output.strip()
    assert "Question:" not in output
