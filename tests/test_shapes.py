"""The generated benchmark: scenes, captions that tell them, videos that show them, the cache."""

import io
import itertools
import math
import random
import re

import av
import numpy as np
import pytest

from fpig.shapes import describe_shapes, make_video
from fpig.shapes_captions import write_captions
from fpig.shapes_drawing import FRAME_SIZE, NUM_FRAMES, measure_distance
from fpig.shapes_scenes import DIRECTIONS, SPLITS, Event, Figure, Scene, draw_scenes, list_twins

DEFAULT_COUNTS = {"train": 6000, "validation": 500, "test": 500}


@pytest.fixture(scope="module")
def default_videos():
    """Scenes and captions of the whole default data set, by split; nothing is drawn."""
    videos = {split: [] for split in SPLITS}
    for name, scene, captions in describe_shapes(0, DEFAULT_COUNTS):
        videos[name.split("/")[0]].append((scene, captions))
    return videos


def read_video(content):
    with av.open(io.BytesIO(content)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


# What is in it


def test_scenes_are_unique_over_all_splits(default_videos):
    assert {split: len(videos) for split, videos in default_videos.items()} == DEFAULT_COUNTS
    scenes = [scene for videos in default_videos.values() for scene, _ in videos]
    assert len(set(scenes)) == len(scenes) == 7000
    # The same without the scene classes' own equality: what happens to whom, ordered where it is in turn.
    meanings = set()
    for scene in scenes:
        clauses = [(scene.figures[event.figure_index], event.action, event.speed) for event in scene.events]
        meanings.add((scene.in_turn, tuple(clauses if scene.in_turn else sorted(clauses))))
    assert len(meanings) == 7000


def test_no_caption_describes_two_videos(default_videos):
    captions = [caption for videos in default_videos.values() for _, texts in videos for caption in texts]
    assert len(set(captions)) == len(captions) == 7000 * 5


def test_every_word_occurs_in_train(default_videos):
    words = {
        split: {word for _, captions in videos for text in captions for word in re.findall(r"\w+", text)}
        for split, videos in default_videos.items()
    }
    assert words["validation"] | words["test"] <= words["train"]
    assert len(words["train"]) < 120


def test_neither_colors_nor_one_frame_nor_unordered_attributes_solve_it(default_videos):
    def oracle_recall_at_1(see):
        """Best possible R@1, in percent, of an oracle that sees this much: one hit per distinct view."""
        scenes = [scene for scene, _ in default_videos["test"]]
        return 100 * len({see(scene) for scene in scenes}) / len(scenes)

    def who_acts_is_hidden(scene):
        return scene.figures, tuple(sorted((event.action, event.speed) for event in scene.events))

    colors = oracle_recall_at_1(lambda scene: tuple(sorted(figure.color for figure in scene.figures)))
    one_frame = oracle_recall_at_1(lambda scene: scene.figures)
    unordered = oracle_recall_at_1(who_acts_is_hidden)
    print(f"oracles' R@1: colours {colors:.1f}, one frame {one_frame:.1f}, unordered {unordered:.1f}")
    assert colors < 5
    assert one_frame < 30
    assert unordered < 75
    assert oracle_recall_at_1(lambda scene: scene) == 100


def test_test_split_does_not_depend_on_the_number_of_training_videos():
    few = draw_scenes(0, {"train": 10, "validation": 20, "test": 50})
    many = draw_scenes(0, {"train": 1000, "validation": 20, "test": 50})
    assert few["test"] == many["test"]
    assert few["validation"] == many["validation"]
    assert draw_scenes(1, {"train": 10, "validation": 20, "test": 50})["test"] != few["test"]


def test_twins_exchange_who_does_what_or_when():
    figures = (Figure("red", "star", "big"), Figure("blue", "ring", "small"))
    scene = Scene(figures, (Event(0, "left"), Event(1, "grow")), in_turn=True)
    assert list_twins(scene) == [
        Scene(figures, (Event(0, "grow"), Event(1, "left")), in_turn=True),
        Scene(figures, (Event(1, "grow"), Event(0, "left")), in_turn=True),
    ]
    assert list_twins(Scene(figures[:1], (Event(0, "left", "fast"),))) == []


# Captions, read back by a second, slow definition of the language

WORDS = {
    "red": "red crimson scarlet",
    "green": "green emerald",
    "blue": "blue azure",
    "yellow": "yellow golden",
    "purple": "purple violet",
    "white": "white ivory",
    "circle": "circle disc",
    "square": "square box",
    "triangle": "triangle wedge",
    "cross": "cross plus",
    "star": "star",
    "ring": "ring hoop",
    "small": "small little tiny",
    "big": "big large huge",
}
CANONICAL = {word: meaning for meaning, words in WORDS.items() for word in words.split()}
ACTION_PATTERNS = {
    "grow": r"grows|expands|gets bigger",
    "shrink": r"shrinks|contracts|gets smaller",
    "blink": r"blinks|flashes|flickers",
    "circle clockwise": r"(circles|orbits|goes round) clockwise",
    "circle anticlockwise": r"(circles|orbits|goes round) (anti|counter)clockwise",
    "appear": r"appears|shows up|comes into view",
    "disappear": r"disappears|vanishes",
    "still": r"stays still|rests|does not move|stops|halts",
}
ORDERED = (r"after (.+), (.+)", r"(?:first )?(.+),? and then (.+)", r"(.+), then (.+)", r"(.+) before (.+)")
REVERSED = (r"(.+) after (.+)",)
AT_ONCE = (r"(?:while|as) (.+), (.+)", r"(.+) while (.+)", r"(.+) and ((?:a|the) .+)")


def parse_clause(clause):
    match = re.fullmatch(r"(?:(?:a|the) (\w+) (\w+) (\w+)|it)? ?(?:first )?(.+)", clause)
    size, color, shape, action = match.groups()
    figure = Figure(*(CANONICAL[word] for word in (color, shape, size))) if size else None
    for name, pattern in ACTION_PATTERNS.items():
        if re.fullmatch(pattern, action):
            return figure, name, ""
    words = re.findall(r"left|right|up|down|top|bottom", action)
    vertical = {"top": "up", "bottom": "down", "up": "up", "down": "down"}
    names = [vertical[word] for word in words if word in vertical]
    names += [word for word in words if word not in vertical]
    speeds = {"slow": r"slowly|gently", "fast": r"fast|quickly|rapidly"}
    return (
        figure,
        " ".join(names),
        "".join(name for name, words in speeds.items() if re.search(words, action)),
    )


def parse_caption(caption):
    for is_in_turn, is_reversed, patterns in ((1, 0, ORDERED), (1, 1, REVERSED), (0, 0, AT_ONCE)):
        for pattern in patterns:
            match = re.fullmatch(pattern, caption)
            if match:
                clauses = [parse_clause(clause) for clause in match.groups()]
                figure = clauses[0][0] or clauses[1][0]
                clauses = [(clause[0] or figure, *clause[1:]) for clause in clauses]
                return bool(is_in_turn), clauses[::-1] if is_reversed else clauses
    return False, [parse_clause(caption)]


def test_captions_tell_the_whole_scene(default_videos):
    for scene, captions in itertools.chain(default_videos["test"], default_videos["train"][:1500]):
        clauses = [(scene.figures[event.figure_index], event.action, event.speed) for event in scene.events]
        for caption in captions:
            is_in_turn, parsed = parse_caption(caption)
            assert is_in_turn == scene.in_turn, caption
            assert (parsed == clauses) if is_in_turn else (sorted(parsed) == sorted(clauses)), (
                caption,
                str(scene),
            )


# Videos: what the decoded frames show


def track_figure(scene, seed=0):
    """Centre [T, 2] (x, y) and area [T] of what is bright in the decoded video; the background is dark."""
    frames = read_video(make_video("test/00000.mp4", scene, seed)).max(axis=-1)
    assert frames.shape == (NUM_FRAMES, FRAME_SIZE, FRAME_SIZE)
    is_bright = frames > 120
    area = is_bright.sum(axis=(1, 2))
    grid = np.arange(FRAME_SIZE)
    weights = is_bright / np.maximum(area, 1)[:, None, None]
    return np.stack(
        [(weights * grid).sum(axis=(1, 2)), (weights * grid[:, None]).sum(axis=(1, 2))], axis=1
    ), area


def play(*events, size="small", seed=0):
    scene = Scene((Figure("green", "square", size),), tuple(events), in_turn=len(events) == 2)
    return track_figure(scene, seed)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("is_first", [True, False])
def test_moves_go_where_the_scene_says_and_when(direction, is_first):
    step = np.sum(
        [{"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}[w] for w in direction.split()], 0
    )
    events = (Event(0, direction), Event(0, "still"))
    center, _ = play(*(events if is_first else events[::-1]))
    acting, resting = (center[:12], center[12:]) if is_first else (center[12:], center[:12])
    np.testing.assert_allclose((acting[-1] - acting[0]) / FRAME_SIZE, 0.42 * step, atol=0.06)
    np.testing.assert_allclose(resting - resting[0], 0, atol=0.5)


def test_slow_and_fast_differ():
    slow, fast = (np.ptp(play(Event(0, "right", speed))[0][:, 0]) / FRAME_SIZE for speed in ("slow", "fast"))
    assert 0.15 < slow < 0.27
    assert fast > 2.2 * slow


@pytest.mark.parametrize(("action", "sign"), [("circle clockwise", 1), ("circle anticlockwise", -1)])
def test_circles_turn_the_right_way(action, sign):
    center, _ = play(Event(0, action))
    x, y = (center - (center.max(axis=0) + center.min(axis=0)) / 2).T
    angles = np.unwrap(
        np.arctan2(y, x)
    )  # y points down: a growing angle turns clockwise for whoever looks at it
    assert angles[-1] - angles[0] == pytest.approx(sign * 2 * math.pi, abs=0.2)
    assert np.hypot(x, y).mean() / FRAME_SIZE == pytest.approx(0.2, abs=0.02)


@pytest.mark.parametrize("size", ["small", "big"])
def test_figures_grow_and_shrink(size):
    _, grown = play(Event(0, "grow"), Event(0, "still"), size=size)
    _, shrunk = play(Event(0, "still"), Event(0, "shrink"), size=size)
    assert 1.6**2 < grown[11] / grown[0] < 2**2
    assert grown[12:] == pytest.approx(grown[11], rel=0.05)
    assert shrunk[:12] == pytest.approx(shrunk[0], rel=0.05)
    assert 1.6**2 < shrunk[0] / shrunk[23] < 2.1**2


def test_figures_blink_appear_and_disappear():
    is_visible = {
        name: play(*events)[1] > 20
        for name, events in {
            "blink": (Event(0, "blink"),),
            "blink late": (Event(0, "still"), Event(0, "blink")),
            "appear": (Event(0, "appear"),),
            "disappear": (Event(0, "disappear"),),
            "appear early": (Event(0, "appear"), Event(0, "up")),
        }.items()
    }
    assert is_visible["blink"].tolist() == [True, True, True, False, False, False] * 4
    assert is_visible["blink late"].tolist() == [True] * 12 + [True, True, True, False, False, False] * 2
    assert is_visible["appear"].tolist() == [False] * 12 + [True] * 12
    assert is_visible["disappear"].tolist() == [True] * 12 + [False] * 12
    assert is_visible["appear early"].tolist() == [False] * 6 + [True] * 18


def test_big_is_bigger_than_small():
    small, big = (play(Event(0, "still"), Event(0, "left"), size=size)[1].mean() for size in ("small", "big"))
    assert 2 < big / small < 4


def test_two_figures_act_in_turn_in_their_colors():
    figures = (Figure("blue", "circle", "small"), Figure("red", "square", "big"))
    scene = Scene(figures, (Event(1, "disappear"), Event(0, "disappear")), in_turn=True)
    frames = read_video(make_video("test/00000.mp4", scene, 0)).astype(int)
    red, blue = (
        frames[..., channel] - np.delete(frames, channel, axis=-1).max(axis=-1) > 90 for channel in (0, 2)
    )
    assert (red.sum(axis=(1, 2)) > 20).tolist() == [True] * 6 + [False] * 18
    assert (blue.sum(axis=(1, 2)) > 20).tolist() == [True] * 18 + [False] * 6


def test_shapes_differ_and_fit_their_radius():
    axis = np.linspace(-1.2, 1.2, 241)
    x, y = axis[None, :], axis[:, None]
    masks = {
        shape: measure_distance(shape, x, y) < 0
        for shape in ("circle", "square", "triangle", "cross", "star", "ring")
    }
    for (first, a), (second, b) in itertools.combinations(masks.items(), 2):
        assert (a & b).sum() / (a | b).sum() < 0.85, (first, second)
    assert all(mask.sum() * 0.01**2 > 0.9 for mask in masks.values())
    assert all(np.abs(axis[np.flatnonzero(mask.any(axis=0))]).max() <= 1.01 for mask in masks.values())
    assert masks["star"][:120].any(axis=1).argmax() < 25  # a point at the top


def test_colors_survive_the_encoding(default_videos):
    scene, _ = default_videos["test"][0]
    rgb = {"red": (225, 30, 30), "yellow": (245, 220, 30), "purple": (175, 50, 225)}
    for color, expected in rgb.items():
        scene = Scene((Figure(color, "square", "big"),), (Event(0, "left", "slow"),))
        frame = read_video(make_video("test/00000.mp4", scene, 0))[0]
        center = np.argwhere(frame.max(axis=-1) > 120).mean(axis=0).round().astype(int)
        np.testing.assert_allclose(frame[tuple(center)], expected, atol=40)


def test_captions_vary(default_videos):
    _, captions = default_videos["train"][0]
    assert len(set(captions)) == 5
    scene = Scene((Figure("red", "star", "big"),), (Event(0, "appear"),))
    assert len(set(write_captions(scene, 20, random.Random(0)))) == 20
