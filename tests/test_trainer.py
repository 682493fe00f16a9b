"""The trainer on a tiny model and really encoded clips."""

import pytest
import torch
import transformers
from toys import make_model, make_records

import fpig.trainer
from fpig.datasets import CaptionedVideo
from fpig.trainer import FPigTrainer
from fpig.training_args import FPigTrainingArguments


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return make_records(tmp_path_factory.mktemp("clips"), num_videos=5)


@pytest.fixture
def make_trainer(processor, records, tmp_path):
    def make(model=None, **settings):
        arguments = {"per_device_train_batch_size": 2, "num_train_epochs": 1, "learning_rate": 1e-3}
        arguments |= {"use_cpu": True, "disable_tqdm": True, "eval_strategy": "no", "save_strategy": "no"}
        arguments |= {"load_best_model_at_end": False}
        args = FPigTrainingArguments(output_dir=str(tmp_path), **arguments | settings)
        return FPigTrainer(model or make_model(processor), args, processor, records, records)

    return make


def test_every_video_comes_once_an_epoch_with_one_caption(make_trainer, records):
    batches = list(make_trainer().get_train_dataloader())
    assert [len(batch["video_ids"]) for batch in batches] == [2, 2]
    seen = [video_id for batch in batches for video_id in batch["video_ids"]]
    assert len(set(seen)) == 4
    assert set(seen) < {record.video_id for record in records}


def test_loss_is_that_of_the_model(make_trainer):
    trainer = make_trainer()
    batch = next(iter(trainer.get_train_dataloader()))
    trainer.model.eval()
    expected = trainer.model(**{key: batch[key] for key in batch if key != "video_ids"}, return_loss=True)
    loss, outputs = trainer.compute_loss(trainer.model, dict(batch), return_outputs=True)
    torch.testing.assert_close(loss, expected.loss)
    torch.testing.assert_close(outputs.video_embeds, expected.video_embeds)
    trainer.generator_only = True
    torch.testing.assert_close(trainer.compute_loss(trainer.model, dict(batch)), expected.generation_loss)


def test_every_parameter_learns(make_trainer):
    trainer = make_trainer(num_train_epochs=3)
    before = {name: value.detach().clone() for name, value in trainer.model.named_parameters()}
    trainer.train()
    same = [name for name, value in trainer.model.named_parameters() if torch.equal(value, before[name])]
    assert same == []


@pytest.mark.parametrize("embed_batch_size", [None, 1])
def test_cache_of_the_device_is_emptied_every_few_steps(make_trainer, monkeypatch, embed_batch_size):
    steps = []
    trainer = make_trainer(num_train_epochs=2, torch_empty_cache_steps=3, embed_batch_size=embed_batch_size)
    for module in (transformers.trainer, fpig.trainer):
        monkeypatch.setattr(module, "clear_device_cache", lambda: steps.append(trainer.state.global_step))
    trainer.train()
    assert steps == [0, 3]


def test_weight_decay_applies_to_matrices_alone(make_trainer):
    trainer = make_trainer(weight_decay=0.3)
    parameters = dict(trainer.model.named_parameters())
    expected = {
        name
        for name, value in parameters.items()
        if value.ndim > 1 and ("embedding" not in name or "patch_embedding" in name)
    }
    decay = {
        id(value): group["weight_decay"]
        for group in trainer.create_optimizer().param_groups
        for value in group["params"]
    }
    assert {name for name, value in parameters.items() if decay[id(value)] == 0.3} == expected
    assert {decay[id(value)] for value in parameters.values()} == {0.0, 0.3}


def test_loss_that_is_not_finite_stops_and_names_the_batch(make_trainer, processor):
    model = make_model(processor)
    with torch.no_grad():
        model.visual_projection.weight.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match=r"`loss` is nan at step 1; the batch was \d\.mp4, \d\.mp4"):
        make_trainer(model).train()


def test_evaluation_logs_retrieval_and_keeps_the_model_training(make_trainer):
    trainer = make_trainer(eval_strategy="epoch")
    trainer.train()
    logged = [line for line in trainer.state.log_history if "eval_t2v_R@1" in line]
    assert len(logged) == 1
    assert 0 <= logged[0]["eval_t2v_R@1"] <= 100
    assert trainer.evaluate()["eval_t2v_R@1"] == logged[0]["eval_t2v_R@1"]


def test_fewer_videos_than_a_batch_are_refused(make_trainer):
    with pytest.raises(ValueError, match=r"`per_device_train_batch_size` is 6 on 1 processes, but .* 5"):
        make_trainer(per_device_train_batch_size=6)


def test_unreadable_video_stops_the_run(make_trainer, records, processor, tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    bad = CaptionedVideo("bad", str(tmp_path / "bad.mp4"), ("nothing",))
    args = make_trainer().args
    trainer = FPigTrainer(make_model(processor), args, processor, [*records, bad], None)
    with pytest.raises(ValueError, match="`bad` of the dataset can't be used"):
        trainer.train()


def test_frame_cache_changes_no_loss(make_trainer, processor, tmp_path):
    losses = {}
    for name, cache in (("decoded", {}), ("filled", {"frame_cache": str(tmp_path / "cache")})):
        torch.manual_seed(0)
        trainer = make_trainer(frame_candidates=5, num_train_epochs=2, logging_steps=1, **cache)
        trainer.train()
        losses[name] = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    assert losses["filled"] == losses["decoded"]
    assert len(losses["filled"]) == 4
    assert 4 <= len(list((tmp_path / "cache").iterdir())) <= 5  # one video of five is left out of an epoch


def test_too_few_candidates_are_refused(make_trainer):
    with pytest.raises(ValueError, match="`frame_candidates` is 1, fewer than the 4 frames that the model"):
        make_trainer(frame_candidates=1)


def test_frame_cache_keeps_what_fits(make_trainer, tmp_path):
    settings = {"frame_cache": str(tmp_path / "cache"), "frame_candidates": 6}
    assert make_trainer(**settings).train_dataset.frame_cache.num_kept == 5
    assert make_trainer(**settings, frame_cache_gib=1e-6).train_dataset.frame_cache.num_kept == 0
