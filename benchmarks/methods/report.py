"""The rows of all methods as one page.

    python -m benchmarks.methods.report

A row is one measured value: {"method", "subject", "way", "measure", "seed", "value"}. Each file beside this one that
measures a method says in ABOUT what is claimed, how it was tried and whether the claim holds.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import rows
from benchmarks.report import machine, markdown

ROWS = Path("benchmarks/results/methods.jsonl")
PAGE = ROWS.with_suffix(".md")
ELSEWHERE = (
    "Pages of their own: [zero-cost proxies](proxies.md), [widths on a line](linear_widths.md), "
    "[depth compression](depth_compression.md), [gradient methods](gradient.md), [strategies and sharings](ranking.md)."
)


def put(method: str, subject: str, way: str, measure: str, seed: int, value: float) -> None:
    """Store one value."""
    row = {"method": method, "subject": subject, "way": way, "measure": measure, "seed": seed, "value": value}
    rows.append_line(ROWS, row)


def about(method: str) -> str:
    """Return the ABOUT of a method's file without executing the file."""
    tree = ast.parse((Path(__file__).parent / f"{method}.py").read_text(encoding="utf-8"))
    found = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["ABOUT"]
    ]
    return str(ast.literal_eval(found[0])).strip() if found else ""


def section(method: str, held: list[dict[str, Any]]) -> str:
    """Return the claim, and a line per subject and variant; the last value of a seed counts."""
    values: dict[tuple[str, str], dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for row in held:
        values[row["subject"], row["way"]][row["measure"]][row["seed"]] = row["value"]
    measures = list(dict.fromkeys(row["measure"] for row in held))
    lines = [
        [*key, str(max(map(len, own.values()))), *(_spread(list(own[measure].values())) for measure in measures)]
        for key, own in sorted(values.items())
    ]
    return f"## {method.replace('_', ' ').capitalize()}\n\n{about(method)}\n\n" + markdown(
        ["subject", "way", "seeds", *measures], lines
    )


def _spread(values: list[float]) -> str:
    if not values:
        return ""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return f"{middle:.3g}" if len(values) == 1 else f"{middle:.3g} [{low:.3g}, {high:.3g}]"


def main() -> None:
    by_method: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows.lines(ROWS):
        by_method[row["method"]].append(row)
    head = (
        "# Methods at small scale\n\n"
        f"{machine(threads=1)}; written by `python -m benchmarks.methods.report`. Medians [quartiles] over seeds. "
        f"{ELSEWHERE}\n\n"
    )
    PAGE.write_text(head + "\n".join(section(*one) for one in sorted(by_method.items())), encoding="utf-8")


if __name__ == "__main__":
    main()
