"""The stages of a run: which there are, what each trains on which weights, and which checkpoint comes out."""

import json

import pytest
import torch
from conftest import make_config
from safetensors.torch import load_file
from torch.nn.functional import normalize
from toys import make_model, make_processor, make_records
from transformers import CLIPConfig, CLIPModel, set_seed

from fpig.settings import get_stages_dir
from fpig.stages import (
    Stage,
    check_run_folder,
    configure_stage,
    find_last_checkpoint,
    plan_stages,
    run_stage,
    start_stage,
)
from fpig.trainer import FPigTrainer
from fpig.training_args import VIDEO_POOLINGS, FPigTrainingArguments
from modeling_fpig import FPigModel

HYBRID = "pseudo_query"
CLIP = {"video_pooling": "mean", "num_frames": 1}
GENERATOR = Stage("generator", 1, 1e-3, make_config(), generator_only=True)
JOINT = Stage("joint", 1, 1e-3, make_config())
STAGES = (Stage("towers", 1, 1e-3, make_config(**CLIP)), GENERATOR, JOINT)


@pytest.fixture(scope="module")
def processor():
    return make_processor()


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return make_records(tmp_path_factory.mktemp("clips"), num_videos=5)


@pytest.fixture
def make_args(tmp_path):
    def make(**settings):
        arguments = {"output_dir": str(tmp_path / "run"), "use_cpu": True, "disable_tqdm": True}
        arguments |= {"per_device_train_batch_size": 2, "save_total_limit": None, "seed": 7}
        return FPigTrainingArguments(**arguments | settings)

    return make


def make_tower_stage(processor):
    return Stage("towers", 1, 1e-3, make_model(processor, **CLIP).config)


def copy_parameters(model):
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def find_changed(before, model):
    return {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}


@pytest.mark.parametrize(
    ("pooling", "has_trained_towers", "epochs", "expected"),
    [
        (HYBRID, False, (14, 2, 5), ["towers mean 1 14", f"generator {HYBRID} 4 2", f"joint {HYBRID} 4 5"]),
        (HYBRID, True, (14, 2, 5), [f"generator {HYBRID} 4 2", f"joint {HYBRID} 4 5"]),
        (HYBRID, False, (14, 0, 5), ["towers mean 1 14", f"joint {HYBRID} 4 5"]),
        (HYBRID, False, (0, 2, 0), [f"generator {HYBRID} 4 2"]),
        (HYBRID, True, (14, 0, 0.5), [f"joint {HYBRID} 4 0.5"]),
        ("class_token", False, (14, 2, 5), ["towers mean 1 14", "joint class_token 4 5"]),
        ("class_token", True, (14, 2, 5), ["joint class_token 4 5"]),
        ("mean", False, (14, 2, 5), ["towers mean 1 14", "joint mean 4 5"]),
        ("mean", True, (14, 2, 5), ["joint mean 4 5"]),
        ("mean", False, (0.1, 2, 0), ["towers mean 1 0.1"]),
    ],
)
def test_stages_and_their_order(make_args, pooling, has_trained_towers, epochs, expected):
    towers, generator, joint = epochs
    args = make_args(
        **{"tower_epochs": towers, "generator_epochs": generator, "num_train_epochs": joint},
        **{"tower_learning_rate": 1e-1, "generator_learning_rate": 1e-2, "learning_rate": 1e-3},
    )
    stages = plan_stages(make_config(video_pooling=pooling), has_trained_towers, args)
    assert [
        f"{stage.name} {stage.config.video_pooling} {stage.config.num_frames} {stage.num_epochs:g}"
        for stage in stages
    ] == expected
    rates = {"towers": 1e-1, "generator": 1e-2, "joint": 1e-3}
    assert [stage.learning_rate for stage in stages] == [rates[stage.name] for stage in stages]
    assert [stage.name for stage in stages if stage.generator_only] == [
        stage.name for stage in stages if stage.name == "generator"
    ]


@pytest.mark.parametrize(
    ("pooling", "has_trained_towers", "epochs"),
    [(HYBRID, False, (0, 0, 0)), (HYBRID, True, (3, 0, 0)), ("class_token", True, (3, 3, 0))],
)
def test_run_without_a_stage_is_refused(make_args, pooling, has_trained_towers, epochs):
    names = ("tower_epochs", "generator_epochs", "num_train_epochs")
    args = make_args(**dict(zip(names, epochs, strict=True)))
    with pytest.raises(ValueError, match=r"`num_train_epochs` is 0 and the other stages have none either"):
        plan_stages(make_config(video_pooling=pooling), has_trained_towers, args)


def test_too_few_candidates_are_refused_before_any_stage(make_args):
    args = make_args(tower_epochs=1, frame_candidates=3)
    with pytest.raises(ValueError, match="`frame_candidates` is 3, fewer than the 4 frames that the model"):
        plan_stages(make_config(), False, args)
    assert plan_stages(make_config(), False, make_args(tower_epochs=1, frame_candidates=4))


def test_towers_are_a_clip_with_random_weights(processor):
    model = make_model(processor)
    set_seed(3)
    towers = start_stage(make_tower_stage(processor), model)
    assert (towers.config.video_pooling, towers.config.num_frames) == ("mean", 1)
    assert (model.config.video_pooling, model.config.num_frames) == (HYBRID, 4)  # left as it was
    assert not {name.split(".")[0] for name, _ in towers.named_parameters()} & {"generator", "interaction"}
    assert towers.logit_scale.item() == pytest.approx(towers.config.logit_scale_init_value)


def write_clip_checkpoint(towers, folder):
    """The same weights as a `CLIPModel` saved by transformers: what the mean over one frame claims to be."""
    config = CLIPConfig(
        text_config=towers.config.text_config.to_dict(),
        vision_config=towers.config.vision_config.to_dict(),
        projection_dim=towers.config.projection_dim,
    )
    clip = CLIPModel(config)
    weights = towers.state_dict()
    weights["vision_model.embeddings.class_embedding"] = weights.pop(
        "vision_model.embeddings.frame_embedding"
    )
    clip.load_state_dict(weights)
    clip.save_pretrained(folder)
    return clip.eval()


@pytest.mark.parametrize("pooling", VIDEO_POOLINGS)
def test_every_method_starts_from_trained_towers_as_from_clip(processor, tmp_path, pooling):
    towers = make_model(processor, **CLIP)
    clip = write_clip_checkpoint(towers, tmp_path / "clip")
    frames = torch.randn(3, 1, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = normalize(clip.get_image_features(frames[:, 0]).pooler_output)
        torch.testing.assert_close(towers.encode_video(frames), expected, rtol=0, atol=1e-6)

    config = make_model(processor, video_pooling=pooling).config
    set_seed(1)
    model = start_stage(Stage("joint", 1, 1e-3, config), towers)
    assert (model.config.video_pooling, model.config.num_frames) == (pooling, 4)
    set_seed(1)
    expected = FPigModel.from_clip_pretrained(
        *(tmp_path / "clip",), video_pooling=pooling, num_frames=4, num_proxy_tokens=2, num_selected_tokens=5
    )
    state, expected = model.state_dict(), expected.state_dict()
    assert state.pop("logit_scale") == towers.logit_scale
    expected.pop("logit_scale")
    torch.testing.assert_close(state, expected, rtol=0, atol=0)


def test_stage_of_the_same_pooling_goes_on_with_the_model(processor):
    model = make_model(processor)
    assert start_stage(JOINT, model) is model
    assert start_stage(GENERATOR, model) is model


def test_run_folders_are_not_mixed(tmp_path):
    run_dir = tmp_path / "run"
    check_run_folder(run_dir, resume=False)
    with pytest.raises(ValueError, match=r"`output_dir` .*run has no run: leave it out"):
        check_run_folder(run_dir, resume=True)
    (run_dir / "evaluation").mkdir(parents=True)  # a folder that no run makes is none of a run
    check_run_folder(run_dir, resume=False)
    (tmp_path / "run-stages").mkdir()
    check_run_folder(run_dir, resume=True)
    with pytest.raises(ValueError, match=r"has a run already, in .*run-stages; pass `--resume_from"):
        check_run_folder(run_dir, resume=False)
    (tmp_path / "run-stages").rmdir()
    (run_dir / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"run holds a model, which would be lost; pass another"):
        check_run_folder(run_dir, resume=False)


@pytest.mark.parametrize("output_dir", ["run", "run/", "./run", "../{parent}/run"])
def test_stages_lie_beside_the_release(tmp_path, monkeypatch, output_dir):
    monkeypatch.chdir(tmp_path)
    assert get_stages_dir(output_dir.format(parent=tmp_path.name)) == tmp_path / "run-stages"


def test_every_stage_draws_anew(make_args, tmp_path):
    """Each counts its epochs from 0: with one seed they would show the same captions in the same order."""
    args = make_args()
    seeds = [configure_stage(stage, args, tmp_path, False).data_seed for stage in STAGES]
    assert len(set(seeds)) == 3
    again = [configure_stage(stage, args, tmp_path, False).data_seed for stage in STAGES]
    assert again == seeds
    assert configure_stage(JOINT, make_args(seed=8), tmp_path, False).data_seed != seeds[2]
    assert configure_stage(JOINT, make_args(seed=8, data_seed=7), tmp_path, False).data_seed == seeds[2]


def test_a_stages_seed_reaches_order_and_captions(processor, records, make_args, tmp_path):
    orders = []
    for data_seed in (1, 2, 1):
        args = configure_stage(STAGES[0], make_args(), tmp_path, has_validation=False)
        args.data_seed = data_seed
        trainer = FPigTrainer(make_model(processor), args, processor, records)
        assert trainer.train_dataset.seed == data_seed
        orders.append(list(trainer._get_train_sampler()))
    assert orders[0] == orders[2] != orders[1]


def test_checkpoint_that_a_kill_cut_short_is_passed_over(tmp_path):
    assert find_last_checkpoint(tmp_path / "none") is None
    for name, state in (("checkpoint-9", "{}"), ("checkpoint-10", "{}"), ("checkpoint-11", '{"epoch": ')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "trainer_state.json").write_text(state)
    (tmp_path / "checkpoint-12").mkdir()
    assert find_last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-10")


def test_generator_stage_moves_the_generator_alone(processor, records, make_args):
    model = make_model(processor)
    before = copy_parameters(model)
    trained = run_stage(GENERATOR, model, processor, records, records, make_args())
    expected = {name for name in before if name.startswith("generator.")}
    assert len(expected) > 20
    assert find_changed(before, trained) == expected


def test_tower_stage_trains_a_clip_on_single_frames(processor, records, make_args):
    set_seed(5)
    before = copy_parameters(start_stage(make_tower_stage(processor), make_model(processor)))
    set_seed(5)
    trained = run_stage(
        make_tower_stage(processor), make_model(processor), processor, records, records, make_args()
    )
    assert (trained.config.video_pooling, trained.config.num_frames) == ("mean", 1)
    assert find_changed(before, trained) == set(before)


def test_joint_stage_moves_everything_even_after_the_generator_stage(processor, records, make_args):
    args = make_args()
    pretrained = run_stage(GENERATOR, make_model(processor), processor, records, records, args)
    before = copy_parameters(pretrained)
    trained = run_stage(JOINT, pretrained, processor, records, records, args)
    assert find_changed(before, trained) == set(before)


def test_stages_learn_at_their_own_rates_for_their_own_epochs(processor, records, make_args, tmp_path):
    args = make_args(logging_steps=1, lr_scheduler_type="constant", learning_rate=0.5, num_train_epochs=9)
    stage = Stage("generator", 2, 1e-4, make_config(), generator_only=True)
    run_stage(stage, make_model(processor), processor, records, records, args)
    history = read_state(tmp_path / "run-stages" / "generator")["log_history"]
    lines = [line for line in history if "loss" in line]
    assert [line["learning_rate"] for line in lines] == [1e-4] * 4  # two epochs of two batches of two
    assert not any("eval_t2v_R@1" in line for line in history)
    assert (args.learning_rate, args.num_train_epochs) == (0.5, 9)


def read_state(stage_dir):
    """The trainer's own account in the last checkpoint of a stage."""
    last = max(stage_dir.glob("checkpoint-*"), key=lambda path: int(path.name.removeprefix("checkpoint-")))
    return json.loads((last / "trainer_state.json").read_text())


def test_best_checkpoint_by_validation_recall_comes_out(processor, records, make_args, tmp_path):
    """The rate rises from zero to one that wrecks the model: a trained one is best after its first step."""
    silent = {"save_strategy": "no", "eval_strategy": "no", "load_best_model_at_end": False}
    learning = Stage("learning", 40, 1e-3, make_config())
    model = run_stage(learning, make_model(processor), processor, records, [], make_args(**silent))
    before = copy_parameters(model)

    wrecking = Stage("joint", 4, 0.3, make_config())
    args = make_args(per_device_train_batch_size=5, warmup_steps=3, lr_scheduler_type="constant_with_warmup")
    trained = run_stage(wrecking, model, processor, records, records, args)
    stage_dir = tmp_path / "run-stages" / "joint"
    history = read_state(stage_dir)["log_history"]
    recalls = [line["eval_t2v_R@1"] for line in history if "eval_t2v_R@1" in line]
    assert len(recalls) == 4
    assert recalls[0] > 60
    assert max(recalls[1:]) < recalls[0]
    last = load_file(stage_dir / "checkpoint-4" / "model.safetensors")
    assert find_changed(before, trained) == set()
    assert not torch.equal(last["visual_projection.weight"], trained.visual_projection.weight)


def test_without_validation_the_last_weights_come_out(processor, records, make_args, tmp_path):
    trained = run_stage(JOINT, make_model(processor), processor, records, [], make_args())
    last = load_file(tmp_path / "run-stages" / "joint" / "checkpoint-2" / "model.safetensors")
    torch.testing.assert_close(trained.state_dict(), last, rtol=0, atol=0)


def test_finished_stage_is_loaded_and_an_unfinished_one_trained(processor, records, make_args, tmp_path):
    args = make_args()
    stage_dir = tmp_path / "run-stages" / "joint"
    (stage_dir / "final.partial").mkdir(parents=True)  # left behind by a run that was stopped while saving
    model = make_model(processor)
    before = copy_parameters(model)
    trained = run_stage(JOINT, model, processor, records, records, args)
    assert find_changed(before, trained)
    assert not (stage_dir / "final.partial").exists()
    again = run_stage(JOINT, make_model(processor), processor, [], [], args)
    torch.testing.assert_close(again.state_dict(), trained.state_dict(), rtol=0, atol=0)
