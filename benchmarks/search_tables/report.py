"""The rows as tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.report import machine, markdown
from benchmarks.search_tables.problems import COST_MARGIN, DEVELOPED_ON, ERROR_QUANTILE, HELD_BACK
from benchmarks.search_tables.rows import BUDGETS, Rows


def write(rows: Rows, path: Path) -> None:
    """Write the report beside the rows: the same name with .md."""
    path.with_suffix(".md").write_text(text(rows), encoding="utf-8")


def text(rows: Rows) -> str:
    parts = [
        "# Searches with few evaluations, on published tables\n\n",
        f"{machine(threads=1)}; written by `python -m benchmarks.search_tables DATA_FOLDER`.\n\n",
        "Each figure is the hypervolume found as a share of that of the true front (for accel: of the best front known "
        "of a regression on the table), after so many evaluations. What has an error beyond the "
        f"{ERROR_QUANTILE:.0%} quantile of the table, or costs more than {COST_MARGIN} times the dearest network of "
        "the front, counts nothing. No search knows these bounds, or a cost before it is evaluated. The number behind "
        "a name says how many networks are asked for at once; what optuna's samplers repeat is not counted.\n\n",
        "## Means over problems of the medians over seeds\n\n",
        *(_means(title, list(problems), rows) for title, problems in _PARTS.items()),
        *(f"## {title}: medians [quartiles]\n\n{_each(list(problems), rows)}\n" for title, problems in _PARTS.items()),
        _failures(rows),
    ]
    return "".join(parts).rstrip() + "\n"


_PARTS = {"Developed on": DEVELOPED_ON, "Held back": HELD_BACK}


def _means(title: str, problems: list[str], rows: Rows) -> str:
    """One line a method that was run on all problems, over the seeds that all of these have."""
    lines = []
    for method in _methods(rows):
        of_problem = [_shares(rows, problem, method) for problem in problems]
        if all(map(len, of_problem)):
            reached = min(found.shape[1] for found in of_problem)
            means = np.mean([np.median(found, axis=0)[:reached] for found in of_problem], axis=0)
            lines.append([_name(method), _range([len(found) for found in of_problem]), *map(_three, means)])
    header = [title, "seeds", *map(str, BUDGETS)]
    return markdown(header, [line + [""] * (len(header) - len(line)) for line in lines]) + "\n"


def _each(problems: list[str], rows: Rows) -> str:
    lines = []
    for problem in problems:
        for method in _methods(rows):
            found = _shares(rows, problem, method)
            if len(found):
                low, middle, high = np.quantile(found, [0.25, 0.5, 0.75], axis=0)
                cells = [f"{_three(m)} [{_three(a)}, {_three(b)}]" for a, m, b in zip(low, middle, high, strict=True)]
                cells += [""] * (len(BUDGETS) - len(cells))
                lines.append([problem, _name(method), str(len(found)), *cells, _pace(rows, problem, method)])
    header = ["problem", "search", "seeds", *(f"{budget}" for budget in BUDGETS), "ms an evaluation"]
    return markdown(header, lines)


def _methods(rows: Rows) -> list[tuple[str, int]]:
    return list(dict.fromkeys((job.method, job.batch) for job in sorted(rows, key=lambda job: (job.method, job.batch))))


def _name(method: tuple[str, int]) -> str:
    return f"{method[0]}, {method[1]}"


def _shares(rows: Rows, problem: str, method: tuple[str, int]) -> np.ndarray:
    """(seeds, budgets that every seed reached)."""
    found = [out.shares for out in _of(rows, problem, method).values()]
    reached = min(map(len, found), default=0)
    return np.array([shares[:reached] for shares in found]).reshape(len(found), reached)


def _of(rows: Rows, problem: str, method: tuple[str, int]) -> Rows:
    """Return the successful runs."""
    return {
        job: out
        for job, out in rows.items()
        if job.problem == problem and (job.method, job.batch) == method and not out.error
    }


def _pace(rows: Rows, problem: str, method: tuple[str, int]) -> str:
    paces = [1e3 * out.seconds / job.evaluations for job, out in _of(rows, problem, method).items()]
    return f"{np.median(paces):.1f}"


def _three(value: float) -> str:
    return f"{value:.3f}"


def _range(counts: Sequence[int]) -> str:
    return f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"


def _failures(rows: Rows) -> str:
    failed = [
        f"- {job.method} on {job.problem}, seed {job.seed}: {out.error}\n" for job, out in rows.items() if out.error
    ]
    return "## Runs that failed\n\n" + "".join(failed) if failed else ""
