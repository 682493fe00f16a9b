"""Captions for the scenes of the generated benchmark `shapes`: varied wording, each tells the whole scene."""

import random

from fpig.shapes_scenes import DIRECTIONS, Event, Scene

_COLOR_WORDS = {
    "red": ("red", "crimson", "scarlet"),
    "green": ("green", "emerald"),
    "blue": ("blue", "azure"),
    "yellow": ("yellow", "golden"),
    "purple": ("purple", "violet"),
    "white": ("white", "ivory"),
}
_SHAPE_WORDS = {
    "circle": ("circle", "disc"),
    "square": ("square", "box"),
    "triangle": ("triangle", "wedge"),
    "cross": ("cross", "plus"),
    "star": ("star",),
    "ring": ("ring", "hoop"),
}
_SIZE_WORDS = {"small": ("small", "little", "tiny"), "big": ("big", "large", "huge")}
_MOVE_WORDS = ("moves", "slides", "goes", "travels")
_DIRECTION_WORDS = {
    "left": ("left", "to the left", "leftwards"),
    "right": ("right", "to the right", "rightwards"),
    "up": ("up", "upwards"),
    "down": ("down", "downwards"),
    "up left": ("up and left", "to the top left", "diagonally up left"),
    "up right": ("up and right", "to the top right", "diagonally up right"),
    "down left": ("down and left", "to the bottom left", "diagonally down left"),
    "down right": ("down and right", "to the bottom right", "diagonally down right"),
}
_SPEED_WORDS = {"slow": ("slowly", "gently"), "fast": ("fast", "quickly", "rapidly")}
_ACTION_WORDS = {
    "grow": ("grows", "expands", "gets bigger"),
    "shrink": ("shrinks", "contracts", "gets smaller"),
    "blink": ("blinks", "flashes", "flickers"),
    "circle clockwise": ("circles clockwise", "orbits clockwise", "goes round clockwise"),
    "circle anticlockwise": ("circles anticlockwise", "orbits counterclockwise", "goes round anticlockwise"),
    "appear": ("appears", "shows up", "comes into view"),
    "disappear": ("disappears", "vanishes"),
    "still": ("stays still", "rests", "does not move"),
}
_STOP_WORDS = ("stops", "halts")

_TEMPLATES_ONE_FIGURE = (
    "{figure} {first} and then {second}",
    "{figure} {first}, then {second}",
    "{figure} first {first}, then {second}",
    "{figure} {first} before it {second}",
    "{figure} {second} after it {first}",
)
_TEMPLATES_IN_TURN = (
    "{first}, then {second}",
    "first {first} and then {second}",
    "{second} after {first}",
    "after {first}, {second}",
    "{first} before {second}",
)
_TEMPLATES_AT_ONCE = (
    "{first} while {second}",
    "{first} and {second}",
    "as {first}, {second}",
    "while {first}, {second}",
)


def write_captions(scene: Scene, num_captions: int, rng: random.Random) -> tuple[str, ...]:
    """Write `num_captions` different captions of `scene`."""
    captions: dict[str, None] = {}
    while len(captions) < num_captions:
        captions[_write_caption(scene, rng)] = None
    return tuple(captions)


def _write_caption(scene: Scene, rng: random.Random) -> str:
    phrases = [_write_action(scene, event, rng) for event in scene.events]
    subjects = [_write_figure(scene, event.figure_index, rng) for event in scene.events]
    if len(scene.events) == 1:
        return f"{subjects[0]} {phrases[0]}"
    if len(scene.figures) == 1:
        template = rng.choice(_TEMPLATES_ONE_FIGURE)
        return template.format(figure=subjects[0], first=phrases[0], second=phrases[1])
    clauses = [f"{subject} {phrase}" for subject, phrase in zip(subjects, phrases, strict=True)]
    if scene.in_turn:
        return rng.choice(_TEMPLATES_IN_TURN).format(first=clauses[0], second=clauses[1])
    rng.shuffle(clauses)
    return rng.choice(_TEMPLATES_AT_ONCE).format(first=clauses[0], second=clauses[1])


def _write_figure(scene: Scene, figure_index: int, rng: random.Random) -> str:
    figure = scene.figures[figure_index]
    words = (_SIZE_WORDS[figure.size], _COLOR_WORDS[figure.color], _SHAPE_WORDS[figure.shape])
    return " ".join(rng.choice(choices) for choices in (("a", "the"), *words))


def _write_action(scene: Scene, event: Event, rng: random.Random) -> str:
    if event.action in DIRECTIONS:
        words = [rng.choice(_MOVE_WORDS), rng.choice(_DIRECTION_WORDS[event.action])]
        if event.speed:
            words.insert(rng.randint(1, 2), rng.choice(_SPEED_WORDS[event.speed]))
        return " ".join(words)
    ends_a_move = scene.in_turn and event == scene.events[1] and scene.events[0].action in DIRECTIONS
    if event.action == "still" and ends_a_move:
        return rng.choice(_STOP_WORDS)
    return rng.choice(_ACTION_WORDS[event.action])
