"""Settings of a run: fields' defaults, then the YAML file, then the command line; nothing else gets in."""

import math
from pathlib import Path

import pytest
import yaml

from fpig.argument_parsing import parse_arguments
from fpig.settings import check_settings, write_settings
from fpig.training_args import VIDEO_POOLINGS
from modeling_fpig import configuration_fpig

CONFIGS = Path(__file__).parents[1] / "configs"


@pytest.fixture
def parse(tmp_path):
    """`parse({…}, "--key", "value")` writes the mapping as YAML and parses it with the command line."""

    def parse(config, *arguments):
        path = tmp_path / "config.yaml"
        path.write_text(config if isinstance(config, str) else yaml.safe_dump(config))
        return parse_arguments([str(path), *arguments], CONFIGS / "shapes.yaml")

    return parse


@pytest.fixture
def refuse(parse, capsys):
    """`refuse(…)` → the one line on stderr with which the settings are refused."""

    def refuse(config, *arguments):
        with pytest.raises(SystemExit) as error:
            parse(config, *arguments)
        assert error.value.code == 2
        usage, message = capsys.readouterr().err.splitlines()
        assert usage.startswith("usage: train.py [CONFIG.yaml]")
        return message

    return refuse


def test_yaml_beats_defaults_and_the_command_line_beats_yaml(parse):
    config = {"num_frames": 7, "dataset": "clips.csv", "learning_rate": 3e-4}
    arguments = ("--dataset", "other.csv", "--learning_rate=2e-4", "--seed", "5")
    model_args, data_args, training_args = parse(config, *arguments)
    assert (model_args.num_frames, model_args.max_length) == (7, 50)
    assert (data_args.dataset, data_args.test_split) == ("other.csv", "test")
    assert (training_args.learning_rate, training_args.seed) == (2e-4, 5)


def test_without_a_file_the_default_config_is_read():
    default = CONFIGS / "shapes.yaml"
    named, unnamed = (parse_arguments([*first, "--seed", "5"], default) for first in ([str(default)], []))
    assert named == unnamed
    assert unnamed[0].image_size == yaml.safe_load(default.read_text())["image_size"]


@pytest.mark.parametrize("config", ["", "# nothing but a comment\n"])
def test_empty_yaml_leaves_the_defaults(parse, config):
    assert parse(config)[2].output_dir == "outputs/fpig"


def test_numbers_that_yaml_takes_for_strings(parse):
    """YAML 1.1 reads 1e-6, without a dot, as a string."""
    _, _, training_args = parse("learning_rate: 1e-6\nwarmup_steps: 0.01\ngenerator_learning_rate: 1.0e-5\n")
    assert training_args.learning_rate == 1e-6
    assert training_args.generator_learning_rate == 1e-5


@pytest.mark.parametrize(("warmup_steps", "expected"), [("0.01", 20), ("0.0101", 21), ("7", 7), ("0", 0)])
def test_warmup_below_one_is_a_share_of_all_steps(parse, warmup_steps, expected):
    assert parse(f"warmup_steps: {warmup_steps}")[2].get_warmup_steps(2000) == expected


def test_booleans_on_the_command_line(parse):
    assert parse({}, "--trust_remote_code")[0].trust_remote_code is True
    assert parse({}, "--trust_remote_code", "false")[0].trust_remote_code is False
    assert parse({"trust_remote_code": True})[0].trust_remote_code is True
    assert parse({"trust_remote_code": True}, "--trust_remote_code=no")[0].trust_remote_code is False
    assert parse({}, "--hub_private_repo")[2].hub_private_repo is True
    resumed = parse({}, "--resume_from_checkpoint", "--seed", "3")[2]
    assert (resumed.resume_from_checkpoint, resumed.seed) == (True, 3)


def test_nothing_in_yaml_where_a_field_may_hold_nothing(parse):
    assert parse("save_total_limit:\nclip_name_or_path: null\n")[2].save_total_limit is None


def test_unknown_keys_are_refused_by_name(refuse):
    assert "has the unknown key `num_frame`;" in refuse({"num_frame": 3, "num_frames": 3})
    assert "has the unknown key `3`;" in refuse({3: 3})
    assert refuse({}, "--num_frame", "3").endswith(
        "unknown arguments: --num_frame 3; `train.py --help` lists the known ones"
    )
    assert "unknown arguments: --eval_strateg=no;" in refuse({}, "--eval_strateg=no")
    assert "unknown arguments: more.yaml;" in refuse({}, "more.yaml")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("- a\n- b\n", "config.yaml` holds list; it must hold `key: value` lines"),
        ("just words", "config.yaml` holds str; it must hold"),
        ("num_frames: [3\nseed: {", "config.yaml` is no YAML: while parsing"),
        ("num_frames: [3, 4]", "`num_frames` is [3, 4] in the YAML file; give it one value or leave it out"),
        ("num_frames:", "`num_frames` is None in the YAML file; give it one value"),
        ("dataset: {train: a.csv}", "`dataset` is {'train': 'a.csv'} in the YAML file; give it one value"),
        ("num_frames: true", "argument --num_frames/--num-frames: invalid int value: 'True'"),
        ("num_frames: 2.5", "argument --num_frames/--num-frames: invalid int value: '2.5'"),
        ("learning_rate: fast", "argument --learning_rate/--learning-rate: invalid float value: 'fast'"),
        ("trust_remote_code: 3", "argument --trust_remote_code/--trust-remote-code: Truthy value expected"),
        ("dataloader_drop_last: false", "`dataloader_drop_last` is False; it must be True: leave it out"),
        ("remove_unused_columns: true", "`remove_unused_columns` is True; it must be False: leave it out"),
        ("eval_strategy: never", "never is not a valid IntervalStrategy"),
    ],
)
def test_bad_yaml_is_refused(refuse, config, message):
    assert message in refuse(config)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--num_frames", "abc"), "argument --num_frames/--num-frames: invalid int value: 'abc'"),
        (("--trust_remote_code", "maybe"), "Truthy value expected: got maybe"),
        (("--no_dataloader_drop_last",), "`dataloader_drop_last` is False; it must be True"),
        (("--remove_unused_columns",), "`remove_unused_columns` is True; it must be False"),
        (("--num_train_epochs", "-1"), "`num_train_epochs` is -1.0; it must be finite and at least 0"),
        (("--tower_epochs=-0.5",), "`tower_epochs` is -0.5; it must be finite and at least 0"),
        (("--generator_epochs=nan",), "`generator_epochs` is nan; it must be finite"),
        (("--learning_rate=-1",), "`learning_rate` is -1.0; it must be finite and at least 0"),
        (("--tower_learning_rate=inf",), "`tower_learning_rate` is inf; it must be finite"),
        (("--generator_learning_rate=-1",), "`generator_learning_rate` is -1.0; it must be"),
        (("--per_device_train_batch_size", "0"), "`per_device_train_batch_size` is 0; it must be at least 1"),
        (("--per_device_eval_batch_size=-2",), "`per_device_eval_batch_size` is -2; it must be at least 1"),
        (("--embed_batch_size=0",), "`embed_batch_size` is 0; it must be at least 1: leave it out to embed"),
        (("--frame_candidates=0",), "`frame_candidates` is 0; it must be at least 1: leave it out to choose"),
        (
            ("--frame_cache=cache",),
            "`frame_cache` is 'cache' but `frame_candidates` is None; say how many frames of a video",
        ),
        (("--frame_cache=",), "`frame_cache` is empty; name a folder, or leave it out to keep no frames"),
        (("--frame_cache_gib=0",), "`frame_cache_gib` is 0.0; it must be finite and above 0"),
        (
            ("--optim=adalomo", "--embed_batch_size=2"),
            "`optim` is 'adalomo', which steps in a batch's one backward pass, but with `embed_batch_size`",
        ),
        (
            ("--optim=schedule_free_sgd",),
            "`optim` is 'schedule_free_sgd', whose weights for training are not",
        ),
        (
            ("--video_pooling", "nonsense"),
            "`video_pooling` is 'nonsense'; it must be one of pseudo_query, class_token, mean",
        ),
        (
            ("--train_split=",),
            "`train_split` is empty, which takes all videos, but `validation_split` is 'va",
        ),
        (("--train_split=", "--validation_split="), "takes all videos, but `test_split` is 'test' and would"),
        (("--max_steps=5",), "`max_steps` is 5; the stages of a run are as long as `tower_epochs`"),
        (("--push_to_hub",), "`hub_model_id` is None; say where to push"),
        (("--num_frames=0",), "`num_frames` is 0; it must be at least 1"),
        (("--num_selected_tokens=-1",), "`num_selected_tokens` is -1; it must be at least 0"),
        (("--num_proxy_tokens=-1",), "`num_proxy_tokens` is -1; it must be at least 0"),
        (("--hidden_size=-4",), "`hidden_size` is -4; it must be at least 1"),
        (("--num_attention_heads=0",), "`num_attention_heads` is 0; it must be at least 1"),
        (("--eval_strategy", "no"), "--load_best_model_at_end requires the save and eval strategy to match"),
    ],
)
def test_bad_values_on_the_command_line_are_refused(refuse, arguments, message):
    assert message in refuse({}, *arguments)


def test_missing_file_is_refused(capsys):
    for name in ("nowhere.yaml", str(CONFIGS)):
        with pytest.raises(SystemExit):
            parse_arguments([name], CONFIGS / "shapes.yaml")
        assert f"`{name}` is no file; the first argument is a YAML file" in capsys.readouterr().err


def test_poolings_are_the_models():
    assert configuration_fpig.VIDEO_POOLINGS == VIDEO_POOLINGS


@pytest.mark.parametrize("name", sorted(path.name for path in CONFIGS.glob("*.yaml")))
def test_written_settings_are_read_back(name, tmp_path):
    arguments = ["--use_cpu", "--num_frames=5", "--hub_token=hf_secret", "--resume_from_checkpoint"]
    settings = parse_arguments([str(CONFIGS / name), *arguments], CONFIGS / "shapes.yaml")
    path = tmp_path / "run" / "settings.yaml"
    write_settings(settings, path)
    assert "secret" not in path.read_text()
    assert not {"hub_token", "resume_from_checkpoint", "local_rank"} & set(yaml.safe_load(path.read_text()))
    again = parse_arguments([str(path)], CONFIGS / "shapes.yaml")
    settings[2].hub_token, settings[2].resume_from_checkpoint = None, False
    assert again == settings


def test_settings_that_hold_nothing_or_many_things_are_read_back(parse, tmp_path):
    config = {"save_total_limit": None, "lr_scheduler_kwargs": {"num_cycles": 0.25}, "debug": []}
    settings = parse(config, "--video_pooling=mean", "--label_names", "a", "b", "--use_cpu")
    write_settings(settings, tmp_path / "settings.yaml")
    again = parse_arguments([str(tmp_path / "settings.yaml")], CONFIGS / "shapes.yaml")
    assert again == settings
    assert again[2].save_total_limit is None
    assert again[2].lr_scheduler_kwargs == {"num_cycles": 0.25}
    assert again[2].label_names == ["a", "b"]


def test_published_settings_name_no_place_on_this_machine(parse, tmp_path):
    settings = parse({}, f"--dataset={tmp_path / 'clips.csv'}", "--output_dir=outputs/x")
    write_settings(settings, tmp_path / "settings.yaml", is_public=True)
    written = yaml.safe_load((tmp_path / "settings.yaml").read_text())
    assert (written["dataset"], written["output_dir"]) == ("clips.csv", "outputs/x")


def test_run_goes_on_with_its_own_settings_alone(parse, tmp_path):
    path = tmp_path / "run-stages" / "settings.yaml"
    check_settings(parse({}), path)  # nothing was written yet
    write_settings(parse({"seed": 3}), path)
    check_settings(parse({"seed": 3}), path)
    check_settings(parse({"seed": 3}, "--output_dir=moved", "--dataloader_num_workers=0"), path)
    check_settings(parse({"seed": 3}, "--embed_batch_size=2", "--activation_checkpointing"), path)
    cached = ("--frame_candidates=48", "--frame_cache=cache", "--frame_cache_gib=1")
    with pytest.raises(ValueError, match=r"`frame_candidates` is 48 but the run in .* began with None"):
        check_settings(parse({"seed": 3}, *cached), path)
    write_settings(parse({"seed": 3}, cached[0]), path)
    check_settings(parse({"seed": 3}, *cached), path)  # where they are kept changes nothing
    write_settings(parse({"seed": 3}), path)
    with pytest.raises(ValueError, match=r"`seed` is 4 but the run in .*run-stages began with 3; continue"):
        check_settings(parse({"seed": 4}), path)
    with pytest.raises(ValueError, match=r"`num_frames` is 5 but the run in .* began with"):
        check_settings(parse({"seed": 3}, "--num_frames=5"), path)


@pytest.mark.parametrize("content", [b"", b"- seed\n", b"seed: [", b"\xff\xfe\x00s"])
def test_damaged_settings_of_a_run_are_refused(parse, tmp_path, content):
    path = tmp_path / "settings.yaml"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"settings.yaml` is damaged; it must hold the .* restore it"):
        check_settings(parse({}), path)


def test_run_of_a_version_that_lacked_a_setting_goes_on_with_its_default(parse, tmp_path):
    path = tmp_path / "settings.yaml"
    write_settings(parse({}), path)
    lines = path.read_text().splitlines()
    path.write_text("\n".join(line for line in lines if not line.startswith("on_missing")))
    check_settings(parse({}), path)
    with pytest.raises(ValueError, match=r"`on_missing` is 'skip' but the run in .* began with 'raise'"):
        check_settings(parse({}, "--on_missing=skip"), path)


def test_command_line_beats_written_settings(parse, tmp_path):
    write_settings(parse({"seed": 3}), tmp_path / "settings.yaml")
    again = parse_arguments([str(tmp_path / "settings.yaml"), "--seed=4"], CONFIGS / "shapes.yaml")
    assert again[2].seed == 4
    assert math.isclose(again[2].learning_rate, parse({})[2].learning_rate)
