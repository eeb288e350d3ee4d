"""Tau of every method, a panel a task."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.ranking.figures import floor
from benchmarks.ranking.grouping import Method, Runs
from benchmarks.ranking.methods import ENTANGLED
from benchmarks.truths import Truth

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STRATEGY, SHARING, FLOOR, CEILING = "#1f5fa8", "#b3541e", "#888888", "#2c7a3f"


def draw(truths: Mapping[str, Truth], of: Mapping[str, Runs], path: Path) -> None:
    """Dots are seeds, strokes their medians; the best methods on top. Nothing where there is no run."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    methods = ordered(of)
    if not methods:
        return
    figure, axes = pyplot.subplots(
        1, len(truths), figsize=(3.2 + 3.6 * len(truths), 1.9 + 0.27 * len(methods)), sharey=True, squeeze=False
    )
    for panel, (name, truth) in zip(axes[0], truths.items(), strict=True):
        _panel(panel, truth, of[name], methods)
        panel.set_title(f"{name}, {len(truth.archs)} architectures", fontsize=10)
    axes[0][0].set_yticks(range(len(methods)), [str(method) for method in methods], fontsize=8)
    axes[0][0].set_ylim(len(methods) - 0.4, -0.6)
    for label, method in zip(axes[0][0].get_yticklabels(), methods, strict=True):
        label.set_color(_color(method))
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=3, fontsize=8, frameon=False)
    figure.tight_layout(rect=(0, 0.65 / figure.get_figheight(), 1, 1))
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def ordered(of: Mapping[str, Runs]) -> list[Method]:
    """All methods, by the mean over tasks of their median tau, the best first."""
    medians: dict[Method, list[float]] = {}
    for runs in of.values():
        for method, some in runs.items():
            medians.setdefault(method, []).append(float(np.median([run.figures.tau for run in some])))
    return sorted(medians, key=lambda method: (-float(np.mean(medians[method])), str(method)))


def _color(method: Method) -> str:
    return STRATEGY if method.sharing == ENTANGLED else SHARING


def _panel(panel: Axes, truth: Truth, runs: Runs, methods: list[Method]) -> None:
    bottom = floor(truth)
    panel.axvline(bottom.ceiling, color=CEILING, lw=1.2, label="a perfect predictor")
    panel.axvline(bottom.repetition, color=CEILING, lw=1.2, ls="--", label="one training for another")
    panel.axvline(bottom.params, color=FLOOR, lw=1.2, ls=":", label="by parameters")
    panel.axvline(bottom.macs, color=FLOOR, lw=1.2, ls="--", label="by multiply-accumulates")
    told = set()
    for y, method in enumerate(methods):
        taus = [run.figures.tau for run in runs.get(method, [])]
        if not taus:
            continue
        kind = "a strategy, entangled weights" if method.sharing == ENTANGLED else "another sharing"
        panel.plot(
            taus,
            [y] * len(taus),
            "o",
            ms=4.5,
            color=_color(method),
            alpha=0.6,
            mew=0,
            label=None if kind in told else kind,
        )
        panel.plot([float(np.median(taus))] * 2, [y - 0.32, y + 0.32], color=_color(method), lw=2)
        told.add(kind)
    panel.set_xlabel("Kendall's tau-b with stand-alone training", fontsize=8)
    panel.tick_params(axis="x", labelsize=8)
    panel.grid(axis="y", color="#eeeeee", zorder=0)
    panel.set_axisbelow(True)
    for side in ("top", "right", "left"):
        panel.spines[side].set_visible(False)
    panel.tick_params(axis="y", length=0)
