"""The benchmark on published cells: tables are read as they are, passes counted, and figures are the tables'."""

import dataclasses
from itertools import product
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch

from benchmarks.cells import __main__ as command
from benchmarks.cells import figures, report, rows, run, setting, tables
from benchmarks.cells.passes import Counted
from benchmarks.cells.rows import EVOLUTION, FRONT, LIMITS, METHODS, Job, Outcome
from benchmarks.cells.tables import ACCURACY, LATENCY, TARGETS
from benchmarks.tables import CELL_OPERATIONS
from search_spaces.nasbench201 import EDGES, NASBench201Space

COLUMNS = [f"op_{source}{target}" for source, target in EDGES]
CONVOLUTIONS = (2, 3)
WORTH = np.array([0.0, 1.0, 2.0, 3.0, 0.5])
"""Of each operation as the tables number them, in points of accuracy."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made-up tables of all cells: an operation is worth something, and costs on each target something else."""
    where = tmp_path_factory.mktemp("tables")
    ops = np.array(list(product(range(5), repeat=6)), dtype=np.int8)
    index = np.random.default_rng(0).permutation(len(ops))
    accuracy = pandas.DataFrame(ops, columns=COLUMNS).assign(arch_index=index, cifar10_test_e200=70 + WORTH[ops].sum(1))
    accuracy.to_parquet(where / ACCURACY)
    heavy = np.isin(ops, CONVOLUTIONS).sum(1)
    latency = pandas.DataFrame({"arch_index": index, "pixel3": 1.0 + heavy, "1080ti_1": 2.0 + (ops > 0).sum(1)})
    latency.sample(frac=1, random_state=0).to_parquet(where / LATENCY)
    return where


@pytest.fixture(scope="module")
def known(folder: Path) -> tables.Tables:
    return tables.load(folder)


# --- tables -------------------------------------------------------------------------------------------------------


def test_cells_are_found_with_what_was_published_of_them(known: tables.Tables) -> None:
    ops = ["nor_conv_3x3", "none", "skip_connect", "avg_pool_3x3", "nor_conv_1x1", "nor_conv_3x3"]
    arch = NASBench201Space().architecture({"op": ops})
    row = known.row(arch)
    assert known.archs([row]) == [arch]
    assert known.error[row] == pytest.approx(30 - WORTH[[CELL_OPERATIONS.index(op) for op in ops]].sum())
    assert known.latencies(arch) == {"latency_ms@pixel3": 4, "latency_ms@1080ti_1": 7}
    assert known.free[row] == 0.5
    assert known.regret.min() == 0 and known.archs([known.regret.argmin()])[0].op == ("nor_conv_3x3",) * 6


@pytest.mark.parametrize(
    ("break_it", "told"),
    [
        (lambda where: where / "none", "there is no folder"),
        (lambda where: (where / LATENCY).unlink(), f"holds no {LATENCY}"),
        (
            lambda where: pandas.DataFrame({"arch_index": [0]}).to_parquet(where / LATENCY),
            "with the columns arch_index",
        ),
        (lambda where: (where / ACCURACY).write_text("no"), f"{ACCURACY} is not the table"),
    ],
)
def test_what_is_missing_is_told_in_a_line(  # type: ignore[no-untyped-def]
    break_it, told: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (ACCURACY, LATENCY):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    given = break_it(tmp_path)
    where = given if isinstance(given, Path) else tmp_path
    assert command.main([str(where), "--rows", str(tmp_path / "c.jsonl")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and told in lines[0]


# --- runs ---------------------------------------------------------------------------------------------------------


def test_passes_are_counted(known: tables.Tables) -> None:
    made = setting.toy(known)
    task, network = Counted(made.task), torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 2))
    batch = task.batch(0, 0)
    task.outputs(network, batch)
    assert task.passes == 1
    with torch.no_grad():
        task.outputs(network, batch)
    assert task.passes == pytest.approx(4 / 3)
    task.evaluate(network)  # as many images as in a batch
    assert task.passes == pytest.approx(5 / 3)
    list(task.calibration(3))
    assert task.passes == pytest.approx(8 / 3)


@pytest.mark.slow
def test_quick_runs_every_part_once(folder: Path, known: tables.Tables, tmp_path: Path) -> None:
    file = tmp_path / "cells.jsonl"
    assert command.main([str(folder), "--quick", "--rows", str(file)]) == 0
    found = rows.read(file)
    assert [job.part for job in found] == [METHODS, LIMITS, LIMITS, FRONT, EVOLUTION]
    assert not [outcome.error for outcome in found.values() if outcome.error]
    of = {job.part: outcome for job, outcome in found.items()}
    assert [job.budget for job in found][-1] == of[FRONT].passes
    assert of[EVOLUTION].passes <= of[FRONT].passes
    exhausted = of[EVOLUTION].evaluated == 2**6  # as so small a space may be, and then passes are left over
    assert exhausted or of[EVOLUTION].passes > of[FRONT].passes - 20, "nearly all of them"
    assert set(of[EVOLUTION].labels) == set(TARGETS) and of[EVOLUTION].evaluated >= run.BATCH
    narrow = known.within(setting.toy(known).space)
    assert len(narrow) == 2**6
    assert all(set(outcome.cells) <= set(narrow.tolist()) for outcome in found.values())
    assert len(of[FRONT].cells) == len(TARGETS) * (run.DIVISIONS + 1)
    told = file.with_suffix(".md").read_text()
    assert "1 of 1 by projection" in told or "0 of 1 by projection" in told
    before = file.read_text()
    assert command.main([str(folder), "--quick", "--rows", str(file)]) == 0
    assert file.read_text() == before, "what was run is not run again"


def test_a_run_of_other_tables_fails(known: tables.Tables) -> None:
    job = Job(METHODS, "drnas", "", 0, 4, 0.0, "0")
    assert "start again" in run.run(job, setting.toy(known)).error


# --- figures ------------------------------------------------------------------------------------------------------


def test_random_search_is_that_of_its_definition(known: tables.Tables) -> None:
    ten = figures.random_search(known, 10)
    below = np.mean(known.regret <= np.median(ten))
    assert 1 - (1 - below) ** 10 == pytest.approx(0.5, abs=0.06)
    assert figures.random_search(known, 50).mean() < ten.mean()


def test_all_limits_must_be_kept(known: tables.Tables) -> None:
    kept = figures.feasible(known, [1.0, 2.0])  # no convolution, and no operation at all
    assert kept.sum() == 1 and known.archs(np.flatnonzero(kept))[0].op == ("none",) * 6
    assert figures.feasible(known, [1.0, 99.0]).sum() == 3**6


def test_hypervolumes_are_shares_of_the_best(known: tables.Tables) -> None:
    everything = list(range(len(known.error)))
    assert figures.share(known, "pixel3", everything) == pytest.approx(1)
    error, latency = figures.reference(known, "pixel3")
    cell = int(np.argmin(known.regret + 100 * (known.latency["pixel3"] > 3)))
    own = (error - known.error[cell]) * (latency - known.latency["pixel3"][cell])
    assert figures.volume(known, "pixel3", [cell]) == pytest.approx(own)
    assert 0 < figures.share(known, "pixel3", [cell]) < 1
    assert figures.share(known, "pixel3", [int(np.argmax(known.latency["pixel3"]))]) == 0


def test_fronts_are_thinned_evenly(known: tables.Tables) -> None:
    by_latency = [int(np.flatnonzero(known.latency["pixel3"] == ms)[0]) for ms in range(1, 8)]
    assert figures.thinned(known, "pixel3", by_latency[::-1], 4) == [by_latency[place] for place in (0, 2, 4, 6)]
    assert figures.thinned(known, "pixel3", by_latency[:2], 4) == by_latency[:2]


def test_the_report_says_what_the_rows_say(known: tables.Tables) -> None:
    made = setting.toy(known)
    best, worst = int(np.argmin(known.error)), int(np.argmax(known.error))
    job = Job(METHODS, "drnas", "", 0, 4, 0.0, made.digest)
    bounded = dataclasses.replace(job, part=LIMITS, bounds="projection")
    held = {
        job: Outcome(cells=(best,)),
        dataclasses.replace(job, seed=1): Outcome(cells=(worst,)),
        bounded: Outcome(cells=(worst,), limits=(1.0, 2.0), r2=(1.0, 1.0)),
        dataclasses.replace(bounded, seed=1): Outcome(cells=(best,), limits=(1.0, 2.0), r2=(1.0, 1.0)),
        dataclasses.replace(job, seed=2): Outcome(error="it broke"),
    }
    told = report.text(made, held)
    assert "1 of 2 runs are better than the best of 10, and 1 are worse" in told and "1 of them without any" in told
    assert "1 of 2 by projection" in told
    assert "No front can be compared yet." in told
    assert "methods drnas : it broke (1 times)" in told
