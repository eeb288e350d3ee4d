"""The benchmark of searches, on made-up tables."""

from itertools import product
from pathlib import Path

import numpy as np
import pandas
import pytest

from benchmarks.search_tables.__main__ import main
from benchmarks.search_tables.problems import load
from benchmarks.search_tables.rows import read

BLOCKS = [f"block_{position}" for position in range(8)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The macro space alone: what is dear errs less."""
    where = tmp_path_factory.mktemp("tables")
    codes = np.array(list(product(range(3), repeat=8)), dtype=np.int8)
    size = codes.sum(axis=1)
    table = pandas.DataFrame(codes, columns=BLOCKS)
    table.assign(test_acc_mean=95 - 40 / (1.0 + size), flops=1.0 + size).to_parquet(where / "nasbench_macro.parquet")
    return where


def test_shares_are_those_of_the_best_front(folder: Path) -> None:
    problem = load("macro/flops", folder)
    archs = list(problem.space.enumerate())
    assert problem.share(problem(archs)) == pytest.approx(1)
    assert 0 < problem.share(problem(archs[::100])) < 1
    assert problem.feasible(archs[:5]).all()


@pytest.mark.parametrize("processes", ["1"])
def test_runs_are_done_once_and_reported(folder: Path, tmp_path: Path, processes: str) -> None:
    words = [str(folder), "--problems", "macro/flops", "--seeds", "2", "--evaluations", "50", "--processes", processes]
    words += ["--methods", "random", "surrogate", "optuna-nsga2", "--rows", str(tmp_path / "rows.jsonl")]
    assert main(words) == 0
    rows = read(tmp_path / "rows.jsonl")
    assert len(rows) == 6
    assert all(not outcome.error and len(outcome.shares) == 1 for outcome in rows.values())
    assert main(words) == 0
    assert read(tmp_path / "rows.jsonl") == rows
    report = (tmp_path / "rows.md").read_text()
    assert report.count("| macro/flops | ") == 3


def test_missing_tables_are_said_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "--problems", "graph/cora"]) == 2
    assert "holds no nasbench_graph.parquet: put the published table there" in capsys.readouterr().err
