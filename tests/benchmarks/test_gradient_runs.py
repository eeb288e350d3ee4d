"""The benchmark of gradient search: budgets are kept, figures are those of the truth."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from benchmarks.finding import find
from benchmarks.gradient import __main__ as command
from benchmarks.gradient import figures as looked_up
from benchmarks.gradient import methods, rows, run
from benchmarks.gradient.rows import JOINT, QUERIED, Job, Outcome
from benchmarks.truths import TOY

BUDGET = 40


def job(method: str = "darts", mode: str = JOINT, seed: int = 0, budget: int = BUDGET) -> Job:
    return Job(TOY, method, 1e-2, mode, seed, budget, find(TOY).digest)


def outcome(derived: int = 0, *, warned: bool = False) -> Outcome:
    """Of a uniform distribution, of which the two first were drawn and the second looks better."""
    size = len(find(TOY).archs)
    return Outcome(
        derived=derived,
        drawn=(0, 1),
        inherited=(0.5, 0.4),
        chances=(1 / size,) * size,
        warnings=("it is odd",) if warned else (),
    )


# --- runs ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "mode", "steps", "passes"),
    [
        ("darts", JOINT, 22, 40),  # 22 of the weights, 18 of the architecture
        ("darts(order=2)", JOINT, 9, 37),  # 9 of the weights, 7 of the architecture, at 4 each
        ("gdas", QUERIED, 20, 20),
    ],
)
def test_the_passes_that_run_are_those_of_the_budget(
    method: str, mode: str, steps: int, passes: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(run, "SUPERNETS", tmp_path)
    found = run.run(job(method, mode))
    assert found.error == "" and (found.steps, found.passes) == (steps, passes)
    assert sorted(found.drawn) == list(range(6)) and len(found.inherited) == 6  # unlikely ones too, in so many draws
    assert sum(found.chances) == pytest.approx(1, abs=1e-3)
    assert (found.supernet_s > 0) == (mode == QUERIED)


@pytest.mark.slow
def test_a_supernet_serves_all_methods_of_a_seed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(run, "SUPERNETS", tmp_path)
    apart = [run.run(job(method, QUERIED)) for method in ("darts", "gdas")]
    assert len(list(tmp_path.iterdir())) == 1
    by_place = [dict(zip(one.drawn, one.inherited, strict=True)) for one in apart]
    assert by_place[0] == by_place[1], "its weights are those it was trained with"


def test_a_run_of_another_truth_fails() -> None:
    other = dataclasses.replace(job(), truth="0")
    assert "start again" in run.run(other).error


# --- figures ------------------------------------------------------------------------------------------------------


def test_what_is_proposed_is_looked_up() -> None:
    truth = find(TOY)
    order = np.argsort(truth.mean)
    best = looked_up.figures(truth, outcome(int(order[0])))
    assert (best.regret, best.rank, best.collapsed) == (0, 1, False)
    worst = looked_up.figures(truth, outcome(int(order[-1]), warned=True))
    assert worst.rank == 6 and worst.collapsed and worst.warned
    assert worst.regret == pytest.approx(np.ptp(truth.mean))
    assert worst.of_drawn == pytest.approx(truth.mean[1] - truth.mean.min())
    assert worst.expected == pytest.approx(truth.mean.mean() - truth.mean.min())


def test_random_search_is_that_of_its_definition() -> None:
    truth = find(TOY)
    alike = dataclasses.replace(truth, values=np.stack([truth.mean] * 2, 1))
    assert (looked_up.random_search(alike, 6) == 0).all(), "whoever trains all without noise finds the best"
    # of two out of six, the best is there in a third of the draws, the second best without it in 4 of 15, and so on
    regrets = np.sort(alike.mean) - alike.mean.min()
    assert looked_up.random_search(alike, 2).mean() == pytest.approx(regrets[:5] @ [5, 4, 3, 2, 1] / 15, rel=0.05)


def test_the_best_methods_go_on() -> None:
    truth = find(TOY)
    order = [int(place) for place in np.argsort(truth.mean)]
    held = {job("darts"): outcome(order[2]), job("gdas"): outcome(order[1]), job("snas"): Outcome(error="no")}
    assert looked_up.best(truth, held, 3) == ["gdas", "darts"]


# --- the command --------------------------------------------------------------------------------------------------


def test_what_was_run_is_not_run_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ran: list[Job] = []

    def fake(one: Job) -> Outcome:
        ran.append(one)
        return outcome(0, warned=True)

    monkeypatch.setattr(command, "run", fake)
    file = tmp_path / "gradient.jsonl"
    words = ["--tasks", TOY, "--methods", "darts", "darts(order=2)", "--seeds", "2", "--rows", str(file)]
    assert command.main(words) == 0
    assert [(one.method, one.mode, one.seed) for one in ran] == [
        (methods.spelled([method]).popitem()[0], mode, seed)
        for seed in (0, 1)
        for method, mode in [("darts", JOINT), ("darts", QUERIED), ("darts(order=2)", JOINT)]
    ]
    assert {one.budget for one in ran} == {180}
    ran.clear()
    assert command.main(words) == 0 and ran == []
    assert len(rows.read(file)) == 6
    told = file.with_suffix(".md").read_text()
    assert "Of 6 runs" in " ".join(told.split()) and "random search, 6 trained, the same budget" in told
    assert file.with_suffix(".png").stat().st_size > 5_000


def test_unknown_methods_are_told_before_anything_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--tasks", TOY, "--methods", "drats", "--rows", str(tmp_path / "g.jsonl")]) == 2
    assert "no gradient method is called 'drats'" in capsys.readouterr().err
