"""Draws the pictures of the concepts as SVG: python docs/concepts/pictures.py

Each has its own light ground, so that it is legible on light and dark pages; text stays text.
"""

import math
import random
from collections.abc import Callable, Iterable
from html import escape
from pathlib import Path

FOLDER = Path(__file__).parent
WIDTH = 720
INK, FAINT, BLUE, ORANGE, GREEN, GROUND = "#1f2430", "#c3c8d4", "#3b5bdb", "#e8590c", "#2b8a3e", "#fbfbfd"


# --- shapes ----------------------------------------------------------------------


def text(x: float, y: float, words: str, *, size: int = 15, colour: str = INK, anchor: str = "start") -> str:
    return f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{colour}" text-anchor="{anchor}">{escape(words)}</text>'


def box(x: float, y: float, w: float, h: float, *, fill: str = "none", line: str = INK, opacity: float = 1) -> str:
    shape = f'x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" rx="3"'
    return f'<rect {shape} fill="{fill}" fill-opacity="{opacity:g}" stroke="{line}" stroke-width="1.5"/>'


def labelled(x: float, y: float, w: float, h: float, words: str, *, fill: str = "#fff", line: str = INK) -> str:
    return box(x, y, w, h, fill=fill, line=line) + text(x + w / 2, y + h / 2 + 5, words, anchor="middle")


def line(points: Iterable[tuple[float, float]], *, colour: str = INK, width: float = 1.5, dash: str = "") -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width:g}"{dashes}/>'


def arrow(x1: float, y1: float, x2: float, y2: float, *, colour: str = INK) -> str:
    angle = math.atan2(y2 - y1, x2 - x1)
    left, right = ((x2 - 9 * math.cos(angle + turn), y2 - 9 * math.sin(angle + turn)) for turn in (0.4, -0.4))
    return line([(x1, y1), (x2, y2)], colour=colour) + line([left, (x2, y2), right], colour=colour)


def dot(x: float, y: float, colour: str, r: float = 5) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r:g}" fill="{colour}"/>'


def picture(title: str, height: int, shapes: Iterable[str]) -> str:
    """An SVG file; `title` is what screen readers say."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img"'
    font = 'font-family="system-ui, sans-serif"'
    ground = f'<rect width="{WIDTH}" height="{height}" rx="8" fill="{GROUND}"/>'
    return "\n".join([f"{head} {font}>", f"<title>{escape(title)}</title>", ground, *shapes, "</svg>", ""])


# --- pictures --------------------------------------------------------------------


def slices() -> str:
    shapes = [text(40, 36, "one stored weight, 64 x 64"), box(40, 50, 192, 192, fill="#fff")]
    shapes += [box(40, 50, 96, 144, fill=BLUE, opacity=0.18, line=BLUE), box(40, 50, 48, 48, fill=ORANGE, opacity=0.45)]
    for y, colour, words, size in (
        (64, ORANGE, "arch.width = 16", "reads 16 x 16"),
        (130, BLUE, "arch.width = 32, hidden = 48", "reads 32 x 48"),
        (196, INK, "the largest network", "reads all of it"),
    ):
        shapes += [dot(290, y - 5, colour, 6), text(310, y, words), text(310, y + 20, size, size=13, colour="#5c6370")]
    shapes += [text(560, 36, "a 7 x 7 kernel"), box(560, 50, 112, 112, fill="#fff")]
    shapes += [box(576, 66, 80, 80, fill=BLUE, opacity=0.18, line=BLUE)]
    shapes += [box(592, 82, 48, 48, fill=ORANGE, opacity=0.45)]
    shapes += [text(560, 188, "3 x 3 and 5 x 5", size=13, colour="#5c6370"), text(560, 206, "are its centre", size=13)]
    return picture("Every architecture reads a part of the same stored weight", 262, shapes)


def routing() -> str:
    shapes = [labelled(30, 110, 130, 44, "architecture", fill="#edf2ff", line=BLUE), arrow(160, 132, 210, 132)]
    shapes += [labelled(210, 110, 90, 44, "router"), arrow(300, 132, 350, 132)]
    for y, name, weight in ((40, "expert 1", "0.7"), (182, "expert 2", "0.3")):
        shapes += [labelled(420, y, 120, 44, name), text(358, y + 27, f"{weight} x", colour=ORANGE, size=17)]
        shapes.append(arrow(540, y + 22, 590, 120 if y < 100 else 146))
    shapes += [text(365, 137, "+", size=20, colour=ORANGE), labelled(590, 108, 100, 50, "weight", fill="#fff4e6")]
    shapes += [
        text(30, 250, "The weight of a layer is a mixture whose coefficients the architecture decides.", size=14)
    ]
    return picture("A router turns the architecture into coefficients of expert weights", 270, shapes)


def relaxation() -> str:
    shapes = [
        text(40, 34, "probabilities of width"),
        text(300, 34, "masks, weighted"),
        text(560, 34, "one forward pass"),
    ]
    for row, (width, share) in enumerate(((16, 0.2), (32, 0.5), (64, 0.3))):
        y = 60 + 56 * row
        shapes += [text(40, y + 20, str(width)), box(70, y + 6, 140 * share, 18, fill=BLUE, line=BLUE, opacity=0.7)]
        shapes += [text(80 + 140 * share, y + 20, f"{share:g}", size=13)]
        shapes += [box(300, y, 160, 30, fill="#fff", line=FAINT), box(300, y, 160 * width / 64, 30, fill=ORANGE)]
        shapes += [arrow(225, y + 15, 290, y + 15), arrow(465, y + 15, 555, 131)]
    shades = ((560, 35, 1.0), (595, 35, 0.8), (630, 70, 0.3))
    shapes += [box(x, 112, w, 38, fill=ORANGE, line="none", opacity=share) for x, w, share in shades]
    shapes += [box(560, 112, 140, 38), text(560, 172, "1.0", size=13), text(595, 172, "0.8", size=13)]
    shapes += [text(640, 172, "0.3", size=13)]
    shapes += [text(40, 252, "Units 1-16 are in every option, units 33-64 in one of probability 0.3.", size=14)]
    return picture("A relaxed network multiplies each unit by the probability that it exists", 272, shapes)


def rounds() -> str:
    colours = {"A": BLUE, "B": ORANGE, "C": GREEN}
    shapes = [text(40, 34, "Three networks in rounds, while the machine slows down and recovers")]
    times = {name: [] for name in colours}
    for index in range(18):
        name = "ABC"[index % 3] if (index // 3) % 2 == 0 else "BCA"[index % 3]
        drift = 1 + 0.5 * math.sin(index / 17 * math.pi)
        height = {"A": 30, "B": 55, "C": 80}[name] * drift
        x = 60 + 32 * index
        times[name].append((x + 10, 190 - height))
        shapes += [box(x, 190 - height, 20, height, fill=colours[name], line=colours[name], opacity=0.75)]
        shapes += [text(x + 10, 208, name, size=12, anchor="middle")]
    shapes += [line([(50, 190), (640, 190)])]
    shapes += [line(points, colour=colours[name], dash="4 4") for name, points in times.items()]
    shapes += [text(40, 240, "Every round, C takes 2.7 times as long as A: what slows all alike divides out.", size=14)]
    return picture("Latencies are measured in interleaved rounds", 260, shapes)


def replay() -> str:
    shapes = [text(40, 34, "what is stored: evaluations, in order")]
    for index in range(9):
        kept = index < 5
        line_colour, words = (INK, str(index + 1)) if kept else (GREEN, str(index + 1))
        shapes.append(
            labelled(40 + 70 * index, 50, 52, 40, words, fill="#fff" if kept else "#ebfbee", line=line_colour)
        )
    shapes += [
        line([(384, 42), (384, 100)], colour=ORANGE, width=3),
        text(384, 120, "killed", colour=ORANGE, anchor="middle"),
    ]
    shapes += [labelled(40, 160, 180, 44, "new searcher"), arrow(200, 95, 130, 155)]
    shapes += [text(235, 150, "1. it is told evaluations 1 to 5 again", size=14)]
    shapes += [text(235, 176, "2. it asks for what it would have asked for: 6 to 9", size=14)]
    shapes += [text(235, 202, "3. only what is missing is evaluated", size=14), arrow(620, 172, 560, 98, colour=GREEN)]
    shapes += [
        text(40, 248, "Searchers keep no random state: the same evaluations lead to the same next question.", size=14)
    ]
    return picture("A resumed search replays what is stored", 268, shapes)


def trust() -> str:
    rng = random.Random(4)
    shapes: list[str] = []
    for left, verdict, colour, kept in ((40, "trusted", BLUE, 0.6), (390, "not reliable", ORANGE, 0.15)):
        alone = [kept * index / 13 + (1 - kept) * rng.random() for index in range(14)]
        tau = kendall(alone)
        shapes += [line([(left, 50), (left, 210), (left + 280, 210)]), text(left, 36, f"{verdict}: tau {tau:.1f}")]
        shapes += [dot(left + 24 + 18 * index, 200 - 120 * value, colour) for index, value in enumerate(alone)]
        shapes += [text(left + 280, 230, "error, shared weights", size=13, anchor="end")]
        shapes += [text(left + 6, 62, "error, trained alone", size=13, colour="#5c6370")]
    return picture("Inherited metrics against stand-alone training, for a good and a poor supernet", 248, shapes)


def kendall(values: list[float]) -> float:
    """Kendall's tau of values and their positions."""
    pairs = [(a, b) for index, a in enumerate(values) for b in values[index + 1 :]]
    return sum(1 if a < b else -1 for a, b in pairs) / len(pairs)


PICTURES: dict[str, Callable[[], str]] = {
    "slices": slices,
    "routing": routing,
    "relaxation": relaxation,
    "rounds": rounds,
    "replay": replay,
    "trust": trust,
}

if __name__ == "__main__":
    for name, draw in PICTURES.items():
        (FOLDER / f"{name}.svg").write_text(draw(), encoding="utf-8")
