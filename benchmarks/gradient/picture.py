"""Regret of every method, a panel a task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.gradient.compare import LARGEST, Compared, Key
from benchmarks.gradient.rows import JOINT, QUERIED
from benchmarks.ranking.report import unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS = {JOINT: "#1f5fa8", QUERIED: "#b3541e"}
RANDOM, SUPERNET, SIZE, MIDDLE = "#2c7a3f", "#7a3f7a", "#c9a227", "#888888"
STYLES = ("-", "--", "-.", ":")


def draw(tasks: Mapping[str, Compared], path: Path) -> None:
    """Draw seeds as dots, their medians as strokes, and medians of baselines as lines; nothing without runs."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    tasks = {name: one for name, one in tasks.items() if one.runs}
    keys = list(dict.fromkeys(key for one in tasks.values() for key in one.runs))
    keys.sort(key=lambda key: key[1])  # joint first; the order within is that of the first task
    if not keys:
        return
    figure, axes = pyplot.subplots(
        1, len(tasks), figsize=(3.2 + 4.2 * len(tasks), 2.6 + 0.27 * len(keys)), sharey=True, squeeze=False
    )
    for panel, (name, one) in zip(axes[0], tasks.items(), strict=True):
        _panel(panel, one, keys)
        panel.set_title(f"{name}, {len(one.truth.archs)} architectures", fontsize=10)
    axes[0][0].set_yticks(range(len(keys)), [f"{method}, {mode}" for method, mode in keys], fontsize=8)
    axes[0][0].set_ylim(len(keys) - 0.4, -0.6)
    for label, (_, mode) in zip(axes[0][0].get_yticklabels(), keys, strict=True):
        label.set_color(COLORS[mode])
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def _panel(panel: Axes, one: Compared, keys: list[Key]) -> None:
    name, factor, _ = unit(one.truth)
    used: Counter[str] = Counter()
    for baseline in one.baselines:
        color = _color(baseline.name)
        told = baseline.name.replace(", best", ",\nbest") if color != MIDDLE else "the middle one of the space"
        middle = factor * float(np.median(baseline.regrets))
        panel.axvline(middle, color=color, ls=STYLES[used[color] % len(STYLES)], lw=1.2, label=told)
        used[color] += 1
    for y, key in enumerate(keys):
        regrets = [factor * run.figures.regret for run in one.runs.get(key, [])]
        if regrets:
            panel.plot(regrets, [y] * len(regrets), "o", ms=4.5, color=COLORS[key[1]], alpha=0.6, mew=0)
            panel.plot([float(np.median(regrets))] * 2, [y - 0.32, y + 0.32], color=COLORS[key[1]], lw=2)
    panel.set_xlabel(f"regret of the derived architecture, {name}", fontsize=8)
    panel.tick_params(axis="x", labelsize=8)
    panel.grid(axis="y", color="#eeeeee", zorder=0)
    panel.set_axisbelow(True)
    panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), fontsize=7, frameon=False)
    for side in ("top", "right", "left"):
        panel.spines[side].set_visible(False)
    panel.tick_params(axis="y", length=0)


def _color(name: str) -> str:
    kinds = {"random search": RANDOM, "supernet": SUPERNET, LARGEST: SIZE}
    return next((color for kind, color in kinds.items() if name.startswith(kind)), MIDDLE)
