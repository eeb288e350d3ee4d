"""The rows of `python -m benchmarks.pretrained` as one table a subject, and a picture.

python -m benchmarks.pretrained.report
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.report import machine, markdown

ROWS = Path("benchmarks/results/pretrained.jsonl")
RESULT = Path("benchmarks/results/pretrained.md")
PICTURE = Path("benchmarks/results/pretrained.png")
SIZES = (0.75, 0.5, 0.25, "latency")
TITLES = {
    "minilm": "MiniLM on sentences",
    "text": "GPT on the King James Bible",
    "large-text": "GPT of 28 million parameters on the King James Bible, on an NVIDIA H200",
    "images": "ResNet on Fashion-MNIST",
}

STYLES: dict[str, dict[str, Any]] = {
    "FastNAS": {"linestyle": ":", "marker": "s", "markersize": 4},
    "Torch-Pruning": {"linestyle": ":", "marker": "^", "markersize": 4},
    "prefix": {"linestyle": "--", "marker": ".", "linewidth": 1},
    "search": {"linestyle": "-", "marker": "."},
}
"""Lines of a kind of contender."""

Found = dict[tuple[str, str, Any], dict[str, Any]]
"""By subject, contender and size what its rows say, those before and after training together."""


def read(path: Path) -> Found:
    found: Found = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        found.setdefault((row["subject"], row["contender"], row["size"]), {}).update(row)
    return found


def report(found: Found) -> str:
    subjects = list(dict.fromkeys(subject for subject, _, _ in found))
    parts = [
        "# Trained models made smaller\n",
        f"{machine('cpu', 1)}; written by `python -m benchmarks.pretrained.report` from `pretrained.jsonl`, which "
        "`python -m benchmarks.pretrained --subject NAME` writes. Test split. Each cell: the score of the network as "
        "it is made of the trained weights → after the same short training with the parent's outputs (nothing where "
        "that has not run). Ours come from one supernet and one run for all sizes; Torch-Pruning and FastNAS run once "
        "for each. Batch norm is calibrated anew for all. Training is the same few steps for all; a network that is "
        "near the parent already can lose by it.\n",
    ]
    for subject in subjects:
        parts.append(f"## {TITLES[subject]}\n\n{table(found, subject)}")
    return "\n".join(parts)


def table(found: Found, subject: str) -> str:
    metrics = list(found[subject, "parent", 1.0]["before"])
    contenders = list(dict.fromkeys(name for own, name, _ in found if own == subject and name != "parent"))
    sizes = [size for size in SIZES if any((subject, name, size) in found for name in contenders)]
    header = [
        "contender",
        *(f"{size:.0%} of parameters" if size != "latency" else "half the latency" for size in sizes),
    ]
    whole = ", ".join(f"{name} {value:.4g}" for name, value in found[subject, "parent", 1.0]["before"].items())
    rows = [[name, *(_cell(found.get((subject, name, size)), metrics[0]) for size in sizes)] for name in contenders]
    return f"Parent: {whole}. Shown: {metrics[0]} (share of the parameters).\n\n" + markdown(header, rows)


def _cell(row: dict[str, Any] | None, metric: str) -> str:
    if row is None or "before" not in row:
        return ""
    after = f" → {row['after'][metric]:.3f}" if "after" in row else ""
    return f"{row['before'][metric]:.3f}{after} ({row['params']:.0%})"


def draw(found: Found, path: Path) -> None:
    """Draw scores against the share of the parameters, a panel per subject, with one look per contender."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    subjects = list(dict.fromkeys(subject for subject, _, _ in found))
    names = sorted({name for _, name, _ in found} - {"parent"}, key=lambda name: (_kind(name), name))
    looks = {name: {"color": f"C{number % 10}", **STYLES[_kind(name)]} for number, name in enumerate(names)}
    figure, axes = pyplot.subplots(2, (len(subjects) + 1) // 2, figsize=(9, 8), squeeze=False)
    for subject, panel in zip(subjects, axes.flat, strict=False):
        parent = found[subject, "parent", 1.0]["before"]
        metric = next(iter(parent))
        for name in names:
            rows = [found[subject, name, size] for size in SIZES[:3] if (subject, name, size) in found]
            rows = [row for row in rows if "before" in row]
            panel.plot([r["params"] for r in rows], [r["before"][metric] for r in rows], label=name, **looks[name])
        panel.axhline(parent[metric], color="grey", linewidth=0.8)
        title = TITLES[subject].partition(",")[0]
        panel.set(title=title, xlabel="share of the parameters", ylabel=f"{metric}, before training")
        panel.title.set_fontsize(10)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8)
    figure.set_layout_engine("constrained")
    figure.savefig(path, dpi=110)


def _kind(name: str) -> str:
    return name.partition(" ")[0].partition(",")[0]


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.pretrained.report")
    parser.add_argument("--rows", type=Path, default=ROWS)
    given = parser.parse_args(words)
    found = read(given.rows)
    RESULT.write_text(report(found), encoding="utf-8")
    draw(found, PICTURE)
    Console().print(RESULT.read_text(encoding="utf-8"), markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
