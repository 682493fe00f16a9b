"""What happens in each video of the generated benchmark `shapes`: pure data, nothing is drawn here.

A *scene* is the full meaning of a video: its figures (colour, shape, size) and what they do in time. Every
scene occurs once in the whole data set. The splits share a fixed list of *casts* (the figures alone), and
each cast plays many times with different events, often with the same two events exchanged. So neither the
colours nor one frame tell which video a caption means: one has to see which figure does what, and when.
"""

import random
from dataclasses import dataclass

COLORS = ("red", "green", "blue", "yellow", "purple", "white")
SHAPES = ("circle", "square", "triangle", "cross", "star", "ring")
SIZES = ("small", "big")
DIRECTIONS = ("left", "right", "up", "down", "up left", "up right", "down left", "down right")
SPEEDS = ("slow", "fast")
SPLITS = ("train", "validation", "test")

NUM_PAIR_CASTS_PER_COLOR_PAIR = 4
AT_ONCE_PROBABILITY = 0.35
TWIN_PROBABILITY = 0.5
_CHANGES = ("grow", "shrink", "blink", "circle clockwise", "circle anticlockwise")


@dataclass(frozen=True, order=True)
class Figure:
    """One object: a colour of `COLORS`, a shape of `SHAPES`, a size of `SIZES`."""

    color: str
    shape: str
    size: str


@dataclass(frozen=True, order=True)
class Event:
    """Figure `figure_index` does `action`: one of `DIRECTIONS`, a change, "appear", "disappear" or "still".

    `speed` is one of `SPEEDS` or empty.
    """

    figure_index: int
    action: str
    speed: str = ""


@dataclass(frozen=True)
class Scene:
    """The meaning of one video: one or two figures and one or two events, all at once or `in_turn`."""

    figures: tuple[Figure, ...]
    events: tuple[Event, ...]
    in_turn: bool = False

    def __str__(self) -> str:
        """Write the scene as one line, such as ``big red ring: up -> small white star: grow``."""
        parts = []
        for event in self.events:
            figure = self.figures[event.figure_index]
            parts.append(f"{figure.size} {figure.color} {figure.shape}: {event.action} {event.speed}".strip())
        return (" -> " if self.in_turn else " + ").join(parts)


def draw_scenes(seed: int, num_scenes: dict[str, int]) -> dict[str, list[Scene]]:
    """Choose the scenes of every split: `num_scenes[split]` of them, no scene twice in the whole data set.

    The test split is drawn first, then validation, then train: the number of training videos does not
    change the test set.

    Raises:
        ValueError: more scenes are asked for than there are.
    """
    rng = random.Random(f"shapes casts {seed}")
    pools = [_CastPool(cast, rng) for cast in draw_casts(rng)]
    scenes = {}
    for split in reversed(SPLITS):
        rng = random.Random(f"shapes {split} {seed}")
        scenes[split] = _draw_split(pools, split, num_scenes[split], rng)
    return scenes


def draw_casts(rng: random.Random) -> list[tuple[Figure, ...]]:
    """List all single figures, and for every pair of colours a few pairs of figures drawn at random."""
    single_casts = [(Figure(color, shape, size),) for color in COLORS for shape in SHAPES for size in SIZES]
    pair_casts: list[tuple[Figure, ...]] = []
    for index, first_color in enumerate(COLORS):
        for second_color in COLORS[index + 1 :]:
            chosen: set[tuple[Figure, ...]] = set()
            while len(chosen) < NUM_PAIR_CASTS_PER_COLOR_PAIR:
                figures = [
                    Figure(color, rng.choice(SHAPES), rng.choice(SIZES))
                    for color in (first_color, second_color)
                ]
                chosen.add(tuple(sorted(figures)))
            pair_casts.extend(sorted(chosen))
    return single_casts + pair_casts


def list_scenes(cast: tuple[Figure, ...]) -> dict[str, list[Scene]]:
    """List every scene a cast can play, by kind: "at once" and "in turn"."""
    if len(cast) == 1:
        at_once = [Scene(cast, (event,)) for event in _list_single_events()]
        in_turn = [
            Scene(cast, (Event(0, first), Event(0, second)), in_turn=True)
            for first in (*DIRECTIONS, *_CHANGES, "appear", "still")
            for second in (*DIRECTIONS, *_CHANGES, "disappear", "still")
            if first != second and (first, second) not in {("appear", "still"), ("still", "disappear")}
        ]
        return {"at once": at_once, "in turn": in_turn}
    actions = (*DIRECTIONS, *_CHANGES, "appear", "disappear", "still")
    at_once = [
        Scene(cast, (Event(0, first), Event(1, second)))
        for first in actions
        for second in actions
        if (first, second) != ("still", "still")
    ]
    in_turn = [
        Scene(cast, (Event(leader, first), Event(1 - leader, second)), in_turn=True)
        for leader in (0, 1)
        for first in (*DIRECTIONS, *_CHANGES, "appear")
        for second in (*DIRECTIONS, *_CHANGES, "disappear")
    ]
    return {"at once": at_once, "in turn": in_turn}


def _list_single_events() -> list[Event]:
    moves = [Event(0, direction, speed) for direction in DIRECTIONS for speed in SPEEDS]
    return moves + [Event(0, action) for action in (*_CHANGES, "appear", "disappear")]


def list_twins(scene: Scene) -> list[Scene]:
    """List the scenes of the same figures and actions in which another one does it, or in another order."""
    if len(scene.events) == 1:
        return []
    first, second = scene.events
    exchanged = (Event(first.figure_index, second.action), Event(second.figure_index, first.action))
    twins = [Scene(scene.figures, exchanged, scene.in_turn)]
    if scene.in_turn and first.figure_index != second.figure_index:
        twins.append(Scene(scene.figures, (second, first), in_turn=True))
    return twins


class _CastPool:
    """The scenes of one cast that no split has used yet."""

    def __init__(self, cast: tuple[Figure, ...], rng: random.Random) -> None:
        self.unused: dict[str, dict[Scene, None]] = {}
        for kind, scenes in list_scenes(cast).items():
            rng.shuffle(scenes)
            self.unused[kind] = dict.fromkeys(scenes)

    def take_any(self, rng: random.Random) -> Scene | None:
        """Take an unused scene: events all at once or in turn, while there are such."""
        kinds = ["at once", "in turn"] if rng.random() < AT_ONCE_PROBABILITY else ["in turn", "at once"]
        for kind in kinds:
            if self.unused[kind]:
                return self.unused[kind].popitem()[0]
        return None

    def take_twin(self, scene: Scene, rng: random.Random) -> Scene | None:
        """Take an unused twin of `scene`, if it has one."""
        scenes = self.unused["in turn" if scene.in_turn else "at once"]
        twins = [twin for twin in list_twins(scene) if twin in scenes]
        if not twins:
            return None
        twin = rng.choice(twins)
        del scenes[twin]
        return twin


def _draw_split(pools: list[_CastPool], split: str, num_scenes: int, rng: random.Random) -> list[Scene]:
    scenes: list[Scene] = []
    while len(scenes) < num_scenes:
        num_before = len(scenes)
        for pool in rng.sample(pools, len(pools)):
            scene = pool.take_any(rng)
            if scene is None:
                continue
            scenes.append(scene)
            twin = pool.take_twin(scene, rng) if rng.random() < TWIN_PROBABILITY else None
            if twin is not None:
                scenes.append(twin)
            if len(scenes) >= num_scenes:
                break
        if len(scenes) == num_before:
            raise ValueError(
                f"`num_{split}` is {num_scenes} but only {num_before} scenes are left for it; "
                "ask for fewer videos"
            )
    scenes = scenes[:num_scenes]
    rng.shuffle(scenes)
    return scenes
