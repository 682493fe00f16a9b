"""
Draws the figure of the method that model cards show.

    python docs/draw_method.py [OUTPUT.png]

Writes `method.png` beside this file by default. Needs matplotlib.
"""

import argparse
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Rectangle

WIDTH, HEIGHT, UNITS_PER_INCH = 160, 100, 20
PAPER, INK, GREY = "#fdfdfb", "#22272e", "#57606a"
QUERY, QUERY_GROUND = "#1f5fc4", "#e9f1fc"
VIDEO, VIDEO_GROUND = "#1a7f37", "#ecf6ed"
PSEUDO, PSEUDO_GROUND = "#c2570c", "#fff1e3"
GLOBAL, FRAME, PATCH = "#0f5223", "#43a35c", "#b5d9bd"
SKIES = ("#a9cdec", "#b9d4a7", "#ecd3a9")


def write(axes: Axes, x: float, y: float, text: str, size: float = 8.5, **style: object) -> None:
    """Centred text, dark by default."""
    defaults = {"ha": "center", "va": "center", "color": INK, "linespacing": 1.3}
    axes.text(x, y, text, fontsize=size, **defaults | style)


def draw_box(
    axes: Axes, place: tuple[float, ...], name: str, colors: tuple[str, str], note: str = ""
) -> None:
    """A rounded box at `place` (left, bottom, width, height) with a name, and a note below the name."""
    left, bottom, width, height = place
    edge, ground = colors
    style = "round,pad=0,rounding_size=2"
    axes.add_patch(FancyBboxPatch((left, bottom), width, height, boxstyle=style, ec=edge, fc=ground, lw=1.5))
    x, y = left + width / 2, bottom + height / 2
    write(axes, x, y + (2.9 if note else 0), name, 9, weight="bold", color=edge)
    if note:
        write(axes, x, y - 2.2, note, 7.8)


def draw_arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], color: str = INK) -> None:
    """A straight arrow."""
    style = {"arrowstyle": "-|>", "mutation_scale": 10, "lw": 1.4, "shrinkA": 0, "shrinkB": 0}
    axes.add_patch(FancyArrowPatch(start, end, color=color, **style))


def draw_tokens(axes: Axes, left: float, bottom: float, colors: list[str]) -> None:
    """A row of tokens."""
    for index, color in enumerate(colors):
        axes.add_patch(Rectangle((left + 3.8 * index, bottom), 3.1, 3.1, ec="none", fc=color))


def draw_vector(axes: Axes, x: float, y: float, color: str) -> None:
    """A vector as a row of cells, centred."""
    for index, alpha in enumerate((0.9, 0.4, 0.7, 0.25, 0.8, 0.5)):
        axes.add_patch(Rectangle((x - 9 + 3 * index, y - 1.5), 3, 3, ec="none", fc=color, alpha=alpha))
    axes.add_patch(Rectangle((x - 9, y - 1.5), 18, 3, ec=color, fc="none", lw=1.2))


def draw_lane(axes: Axes, bottom: float, height: float, title: str, colors: tuple[str, str]) -> None:
    """The ground of one half of the drawing, with its title."""
    edge, ground = colors
    style = "round,pad=0,rounding_size=3"
    axes.add_patch(FancyBboxPatch((3, bottom), 154, height, boxstyle=style, ec="none", fc=ground))
    write(axes, 7, bottom + height - 4, title, 9, color=edge, weight="bold", ha="left")


def draw_query_side(axes: Axes) -> None:
    """Query, caption tower, its vector, cosine, ranking."""
    draw_lane(axes, 75, 22, "AT QUERY TIME: once per query", (QUERY, QUERY_GROUND))
    write(axes, 21, 83, "“a dog runs\non the beach”", 9, style="italic")
    draw_arrow(axes, (35, 83), (42, 83), QUERY)
    draw_box(axes, (42, 77.5, 30, 11), "Caption tower", (QUERY, PAPER))
    draw_arrow(axes, (72, 83), (81, 83), QUERY)
    draw_vector(axes, 91, 83, QUERY)
    write(axes, 91, 79, "query vector")
    draw_arrow(axes, (101, 83), (126, 83), QUERY)
    axes.add_patch(Circle((131, 83), 4.8, ec=INK, fc=PAPER, lw=1.5))
    write(axes, 131, 83, "cos", 9, weight="bold")
    draw_arrow(axes, (136, 83), (142, 83))
    write(axes, 149.5, 83, "ranked\nvideos", 9)


def draw_video_tower(axes: Axes) -> None:
    """Frames, the video tower and its tokens."""
    for index, sky in enumerate(SKIES):
        left, bottom = 9, 55.5 - 8.8 * index
        axes.add_patch(Rectangle((left, bottom), 15, 7.6, ec=INK, fc=sky, lw=0.9))
        axes.add_patch(Circle((left + 3.4 + 4 * index, bottom + 3.8), 1.9, ec="none", fc="#cf222e"))
    write(axes, 16.5, 34.9, "frames")
    draw_arrow(axes, (26, 50.5), (33.5, 50.5), VIDEO)
    draw_box(axes, (34, 44.5, 23, 12), "Video\ntower", (VIDEO, PAPER))
    draw_arrow(axes, (57, 50.5), (62.5, 50.5), VIDEO)
    draw_tokens(axes, 64, 54, [GLOBAL] * 4)
    draw_tokens(axes, 64, 48.6, [FRAME] * 3)
    draw_tokens(axes, 64, 43.2, [PATCH, PSEUDO, PATCH, PATCH])
    draw_tokens(axes, 64, 39.4, [PATCH, PATCH, PSEUDO, PSEUDO])
    write(axes, 80.5, 55.5, "class + proxies", ha="left")
    write(axes, 80.5, 50.1, "frame tokens", ha="left")
    write(axes, 80.5, 42.9, "patch tokens", ha="left")


def draw_pseudo_query(axes: Axes) -> None:
    """Selected patches, the generator, and the pseudo-query that attends over the video's tokens."""
    draw_arrow(axes, (71, 38.4), (71, 28), PSEUDO)
    write(axes, 73, 33.3, "by the class token's\nattention", 7.8, ha="left", color=GREY)
    draw_box(
        axes,
        (57, 14, 28, 14),
        "Token selection",
        (PSEUDO, PSEUDO_GROUND),
        "the best $K$ patches\nof all frames",
    )
    draw_arrow(axes, (85, 21), (91, 21), PSEUDO)
    draw_box(axes, (91, 14, 29, 14), "Pseudo-query\ngenerator", (PSEUDO, PSEUDO_GROUND))
    axes.plot([104, 106, 106, 104], [57.3, 57.3, 48.4, 48.4], color=VIDEO, lw=1.4)
    draw_arrow(axes, (106, 48.4), (106, 28), VIDEO)
    draw_arrow(axes, (106, 52.5), (114, 52.5), VIDEO)
    draw_arrow(axes, (120, 21), (126.5, 21), PSEUDO)
    draw_vector(axes, 136.5, 21, PSEUDO)
    write(axes, 136.5, 16.6, "pseudo-query", weight="bold", color=PSEUDO)
    write(axes, 133, 9, "learns from real captions:\nthe two vectors should agree", 7.8, color=GREY)
    draw_arrow(axes, (136.5, 23), (136.5, 42.5), PSEUDO)
    draw_box(
        axes,
        (114, 42.5, 34, 15),
        "Interaction",
        (PSEUDO, PSEUDO_GROUND),
        "the pseudo-query\nattends over the tokens",
    )
    draw_arrow(axes, (131, 57.5), (131, 62.8), VIDEO)
    draw_vector(axes, 131, 64.8, VIDEO)
    write(axes, 120, 64.8, "video vector, stored", ha="right", weight="bold", color=VIDEO)
    draw_arrow(axes, (131, 66.8), (131, 78), VIDEO)


def draw_method(path: Path) -> None:
    """Writes the figure."""
    figure = Figure(figsize=(WIDTH / UNITS_PER_INCH, HEIGHT / UNITS_PER_INCH), facecolor=PAPER)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, WIDTH), ylim=(0, HEIGHT), aspect="equal")
    axes.axis("off")
    draw_lane(axes, 3, 69, "OFFLINE: once per video, before any query", (VIDEO, VIDEO_GROUND))
    draw_query_side(axes)
    draw_video_tower(axes)
    draw_pseudo_query(axes)
    write(
        axes,
        9,
        21,
        "One vector per video is kept.\nThe pseudo-query is a guess at\nwhat one would ask to find the\n"
        "video; a search pays nothing\nfor it.",
        8,
        ha="left",
        color=GREY,
    )
    figure.savefig(path, dpi=200, pil_kwargs={"optimize": True})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", type=Path, nargs="?", default=Path(__file__).with_name("method.png"))
    draw_method(parser.parse_args().output)
