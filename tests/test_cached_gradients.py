"""Chunks, activation checkpointing and several processes change no gradient of a real training step."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from fsdp_on_cpu import FSDP
from test_train_script import ROOT, SETTINGS, make_command, read_losses, run
from toys import make_records
from training_process import CASES, Step, train_one_step

from fpig.cached_gradients import embed_chunks, read_embeds
from fpig.settings import get_stages_dir
from fpig.shapes import make_shapes

SCRIPT = Path(__file__).with_name("training_process.py")
FSDP_SCRIPT = Path(__file__).with_name("fsdp_on_cpu.py")
JOINT_BATCH_SIZE = 6


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return make_records(tmp_path_factory.mktemp("clips"), num_videos=2 * JOINT_BATCH_SIZE)


@pytest.fixture(scope="module")
def take_step(records, tmp_path_factory):
    """`take_step({…}, setting=…)` → gradients and logs of one process with the joint batch."""

    def take(model_settings, **settings):
        settings = {"per_device_train_batch_size": JOINT_BATCH_SIZE} | settings
        return train_one_step(
            records, model_settings, output_dir=str(tmp_path_factory.mktemp("run")), **settings
        )

    return take


@pytest.fixture(scope="module")
def joint_steps(take_step):
    """Every case as it is without what must change no gradient."""
    steps = {}
    for name, (model_settings, settings, _) in CASES.items():
        key = str((model_settings, settings))
        steps[key] = steps[name] = steps[key] if key in steps else take_step(model_settings, **settings)
    return steps


@pytest.fixture(scope="module", params=["whole weights", "sharded"])
def steps_of_two_processes(records, tmp_path_factory, request):
    """Every case with what must change no gradient, half a batch in each process."""
    folder = tmp_path_factory.mktemp("processes")
    (folder / "records.pickle").write_bytes(pickle.dumps(records))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += [FSDP_SCRIPT] if request.param == "sharded" else []
    environment = os.environ | (FSDP if request.param == "sharded" else {})
    subprocess.run([*command, SCRIPT, folder], check=True, timeout=240, env=environment)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


def assert_same_step(step, expected):
    """Gradients within 1e-5 of their own size, and the same losses logged."""
    assert step.gradients.keys() == expected.gradients.keys()
    assert len(step.gradients) > 10
    for name, gradient in expected.gradients.items():
        # A softmax sees no difference where all keys move alike: the true gradient of their bias is 0.
        size = expected.gradients[name.replace("k_proj.bias", "k_proj.weight")].norm()
        assert (step.gradients[name] - gradient).norm() <= 1e-5 * size, name
    losses = {key for key in step.logged if key.endswith("loss")}
    assert losses == {key for key in expected.logged if key.endswith("loss")} > {"loss"}
    assert all(step.logged[key] == pytest.approx(expected.logged[key], rel=1e-5) for key in losses)


def expect_passes(batch_size, embed_batch_size=None, activation_checkpointing=False):
    """How many videos go through a layer each time that it runs: cut into chunks, or run again."""
    if embed_batch_size is None:
        return [batch_size] * (1 + activation_checkpointing)
    sizes = [min(embed_batch_size, batch_size - start) for start in range(0, batch_size, embed_batch_size)]
    return sizes + [size for size in sizes for _ in range(1 + activation_checkpointing)]


@pytest.mark.parametrize("name", CASES)
def test_gradients_equal_the_joint_batchs(take_step, joint_steps, name):
    model_settings, settings, changes = CASES[name]
    step = take_step(model_settings, **settings | changes)
    assert_same_step(step, joint_steps[name])
    num_batches = settings.get("gradient_accumulation_steps", 1)
    assert step.passes == num_batches * expect_passes(JOINT_BATCH_SIZE, **changes)


@pytest.mark.parametrize("name", CASES)
def test_gradients_of_two_processes_equal_the_joint_batchs(steps_of_two_processes, joint_steps, name):
    _, settings, changes = CASES[name]
    for steps in steps_of_two_processes:
        step = Step(*steps[name])
        assert_same_step(step, joint_steps[name])
        num_batches = settings.get("gradient_accumulation_steps", 1)
        assert step.passes == num_batches * expect_passes(JOINT_BATCH_SIZE // 2, **changes)
        assert not step.was_averaged_early


def test_half_precision_learns_the_same_from_chunks(take_step):
    """Autocast keeps half-precision copies of weights; one made without a graph would have no gradient."""
    expected = take_step({}, bf16=True).gradients
    gradients = take_step({}, bf16=True, embed_batch_size=2).gradients
    assert gradients.keys() == expected.keys()
    norms = torch.stack([gradient.norm() for gradient in expected.values()])
    errors = torch.stack([(gradients[name] - gradient).norm() for name, gradient in expected.items()])
    assert errors.norm() <= 0.02 * norms.norm()


def compute_loss(model, embeds):
    return model.compute_loss(*embeds)[0]


def take_gradients(model):
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    model.zero_grad()
    return gradients


def test_dropout_is_the_same_when_a_chunk_is_embedded_again(make_tiny_model, tiny_batch):
    model = make_tiny_model(interaction_dropout=0.5).train()
    chunks = [{name: values[start : start + 2] for name, values in tiny_batch.items()} for start in (0, 2)]
    torch.manual_seed(3)
    parts = [read_embeds(model(**chunk, return_loss=False)) for chunk in chunks]
    joined = [torch.cat(column) for column in list(zip(*parts, strict=True))[:3]]
    expected_loss = compute_loss(model, (*joined, parts[0].logit_scale))
    expected_loss.backward()
    expected = take_gradients(model)
    expected_draw = torch.rand(1)

    torch.manual_seed(3)
    chunks, embeds = embed_chunks(model, tiny_batch, 2)
    loss = compute_loss(model, embeds)
    assert torch.equal(loss, expected_loss)
    loss.backward()
    for chunk in chunks:
        chunk.embed_again().backward()
    gradients = take_gradients(model)
    assert torch.equal(torch.rand(1), expected_draw)  # what comes after the step draws as without chunks
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-5, msg=name)
    compute_loss(model, embed_chunks(model, tiny_batch, 2)[1])
    assert not torch.equal(compute_loss(model, embed_chunks(model, tiny_batch, 2)[1]), loss)


def test_chunks_without_a_graph_keep_nothing_for_the_backward_pass(tiny_model, tiny_batch):
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(saved.append, lambda tensor: tensor):
        chunks, _ = embed_chunks(tiny_model, tiny_batch, 2)
    assert not saved
    assert [len(chunk.embeds.video_embeds) for chunk in chunks] == [2, 1]


def test_every_stage_of_a_run_takes_chunks_and_checkpoints_activations(tmp_path):
    """Two processes with both log what one process with neither logs, without dropout."""
    dataset = make_shapes(tmp_path, num_train=16, num_validation=8, num_test=8, num_workers=1)
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(SETTINGS | {"dataset": str(dataset)}))
    losses = {}
    for num_processes, settings in (
        (1, ["--per_device_train_batch_size=8"]),
        (2, ["--per_device_train_batch_size=4", "--embed_batch_size=3", "--activation_checkpointing"]),
    ):
        run_dir = tmp_path / f"run_{num_processes}"
        command = make_command(tmp_path / "tiny.yaml", run_dir, *settings, num_processes=num_processes)
        command.insert(command.index(str(ROOT / "train.py")), str(SCRIPT.with_name("without_dropout.py")))
        done = run(command)
        assert done.returncode == 0, done.stderr
        losses[num_processes] = {
            stage: [line["loss"] for line in read_losses(get_stages_dir(run_dir) / stage) if "loss" in line]
            for stage in ("towers", "generator", "joint")
        }
    one, two = losses[1], losses[2]
    assert [len(two[stage]) for stage in two] == [2, 2, 4]
    for stage, expected in one.items():
        assert two[stage] == pytest.approx(expected, rel=1e-4), stage
