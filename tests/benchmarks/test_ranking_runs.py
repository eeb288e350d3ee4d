"""The benchmark of ranks: what is run once is not run again, budgets are equal, figures are those of scipy."""

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from rich.console import Console

from benchmarks import work
from benchmarks.finding import find
from benchmarks.ranking import __main__ as command
from benchmarks.ranking import figures as ranking
from benchmarks.ranking import methods, rows, run
from benchmarks.ranking.budget import BudgetError, steps_within
from benchmarks.ranking.report import text
from benchmarks.ranking.rows import Job, Outcome
from benchmarks.truths import TOY, Truth
from supernets.strategies import STRATEGIES

BUDGET = 40


def job(strategy: str = "uniform", sharing: str = "entangled", seed: int = 0, task: str = TOY) -> Job:
    return Job(task, strategy, sharing, seed, BUDGET, find(TOY).digest)


def outcome(*inherited: float) -> Outcome:
    return Outcome(steps=1, passes=1, ms_per_pass=1.0, inherited=inherited)


def ordered(number: int) -> Outcome:
    """Inherited metrics that order the toy's architectures as the truth does, but for some neighbours that changed."""
    values = np.argsort(np.argsort(find(TOY).mean)).astype(float)
    for rank in range(0, 2 * number, 2):
        here, there = np.flatnonzero(values == rank)[0], np.flatnonzero(values == rank + 1)[0]
        values[here], values[there] = values[there], values[here]
    return outcome(*values)


# --- the command --------------------------------------------------------------------------------------------------


class Runs:
    """Counts what is run in earnest."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.jobs: list[Job] = []
        monkeypatch.setattr(command, "run", self)

    def __call__(self, one: Job) -> Outcome:
        self.jobs.append(one)
        return run.run(one)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Runs:
    return Runs(monkeypatch)


def test_what_was_run_is_not_run_again(counted: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "ranking.jsonl"
    assert command.main(["--quick", "--rows", str(file)]) == 0
    assert [one.strategy for one in counted.jobs] == ["uniform", "sandwich"]
    assert "stage 1 2 of 2: toy, sandwich, entangled, seed 0: tau " in capsys.readouterr().err

    whole = file.read_text()
    counted.jobs.clear()
    assert command.main(["--quick", "--rows", str(file)]) == 0
    assert counted.jobs == [] and file.read_text() == whole

    file.write_text(whole[:-40])  # as a machine that stopped while it wrote would leave it
    assert command.main(["--quick", "--rows", str(file)]) == 0
    assert [one.strategy for one in counted.jobs] == ["sandwich"]
    again = rows.read(file)
    assert [held.inherited for held in again.values()] == [
        tuple(json.loads(line)["inherited"]) for line in whole.split()
    ]
    report = file.with_suffix(".md").read_text()
    assert "12 stand-alone trainings on toy (360 passes of 32 examples)" in report
    assert "| uniform | entangled | 1 | 360 | 0 |" in report and "| sandwich | entangled | 1 | 90 | 0 |" in report
    assert file.with_suffix(".png").stat().st_size > 5_000


def test_unknown_methods_are_all_told_before_anything_runs(
    counted: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "--tasks",
        TOY,
        "--strategies",
        "uniform",
        "unifrom",
        "sandwich(num=3)",
        "--rows",
        str(tmp_path / "r.jsonl"),
    ]
    assert command.main(words) == 2
    told = capsys.readouterr().err
    assert "no strategy is called 'unifrom'" in told and "strategy 'sandwich' has no setting 'num=3'" in told
    assert counted.jobs == []


def test_stage_two_takes_the_two_best(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ran: list[Job] = []
    swapped = {"uniform": 0, "sandwich": 2, "uniform(over=choices)": 1}

    def fake(one: Job) -> Outcome:
        ran.append(one)
        return ordered(swapped[one.strategy])

    monkeypatch.setattr(command, "run", fake)
    words = ["--tasks", TOY, "--seeds", "2", "--strategies", *swapped, "--sharings", "entangled", "split"]
    assert command.main([*words, "--rows", str(tmp_path / "r.jsonl")]) == 0
    later = [(one.strategy, one.sharing) for one in ran if one.sharing != "entangled"]
    assert later == [("uniform", "split"), ("uniform(over=choices)", "split")] * 2
    assert len(ran) == 2 * (3 + 2) == len(set(ran)), "entangled runs of stage 1 serve stage 2"


def test_a_failure_is_a_row_and_the_others_go_on(
    counted: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "r.jsonl"
    words = ["--tasks", TOY, "--seeds", "1", "--budget", "1", "--best", "uniform", "--rows", str(file)]
    words += ["--sharings", "split(groups=kernel:3|5)", "entangled"]
    assert command.main(words) == 0
    failed, done = rows.read(file).values()
    assert "kernel" in failed.error and "\n" not in failed.error and not failed.inherited
    assert done.error == "" and len(done.inherited) == 6
    assert failed.error in file.with_suffix(".md").read_text() and "failed: " in capsys.readouterr().err

    counted.jobs.clear()
    assert command.main(words) == 0 and counted.jobs == []
    assert command.main([*words, "--again"]) == 0
    assert [one.sharing for one in counted.jobs] == ["split(groups=kernel:3|5)"]


def test_every_method_that_is_compared_exists() -> None:
    assert len(methods.strategies()) == len(methods.STRATEGIES)
    assert len(methods.sharings()) == len(methods.SHARINGS)


# --- rows ---------------------------------------------------------------------------------------------------------


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    file = tmp_path / "r.jsonl"
    rows.append(file, job(), outcome(1.0))
    file.write_text(file.read_text() + '{"task": 1}\n' + file.read_text())
    with pytest.raises(rows.RowsError, match=r"r\.jsonl, line 2 is no row of this benchmark \('strategy'\): remove it"):
        rows.read(file)


def test_a_row_reads_back_and_replaces_what_was_cut_off(tmp_path: Path) -> None:
    file = tmp_path / "r.jsonl"
    rows.append(file, job(), outcome(0.25, 0.5))
    with file.open("a") as cut:
        cut.write('{"task":"toy"')
    rows.append(file, job(seed=1), Outcome(error="no"))
    assert rows.read(file) == {job(): outcome(0.25, 0.5), job(seed=1): Outcome(error="no")}


# --- budgets ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("passes", "steps"),
    [
        (lambda n: n, 1000),
        (lambda n: 4 * n, 250),
        (lambda n: 3 * n, 333),
        (lambda n: n // 2 + 4 * (n - n // 2), 400),  # one pass in the first half, four in the second
        (lambda n: n + 5 * max(0, n - 100), 250),
        (lambda n: min(n, 990) + 600 * max(0, n - 990), 990),
        (lambda n: n * n, 31),
    ],
)
def test_the_most_steps_within_a_budget(passes: Callable[[int], int], steps: int) -> None:
    looks = []

    def looked(n: int) -> int:
        looks.append(n)
        return passes(n)

    assert steps_within(looked, 1000) == (steps, passes(steps))
    assert passes(steps) <= 1000 < passes(steps + 1) and len(looks) <= 24


def test_a_budget_below_one_step_is_refused() -> None:
    with pytest.raises(BudgetError, match="a budget of 3 passes does not pay for one step of 4: give at least 4"):
        steps_within(lambda n: 4 * n, 3)


@pytest.mark.parametrize(
    "strategy", ["uniform", *(pytest.param(name, marks=pytest.mark.slow) for name in STRATEGIES if name != "uniform")]
)
def test_each_strategy_runs_the_passes_of_its_budget(strategy: str) -> None:
    steps, passes = run.num_steps(job(strategy), find(TOY))
    done = run.run(job(strategy))
    assert done.error == "" and (done.steps, done.passes) == (steps, passes)
    assert done.passes_beside == 0, "passes as counted without training"
    most = -(-passes // steps) + 8  # one step more, which may be longer than most, would not be paid for
    assert BUDGET - most < passes <= BUDGET


def test_the_cost_of_finding_splits_is_told() -> None:
    done = run.run(job(sharing="split(models=2, batches=3)"))
    assert done.error == "" and done.passes_beside > 0


# --- figures ------------------------------------------------------------------------------------------------------


def truth(values: list[list[float]]) -> Truth:
    toy, archs = find(TOY), find(TOY).archs[: len(values)]
    sizes = np.arange(len(values), dtype=float)
    return dataclasses.replace(toy, archs=archs, values=np.array(values), params=sizes, macs=-sizes)


def test_figures_are_those_of_scipy() -> None:
    known = truth([[0.5, 0.6], [0.4, 0.5], [0.3, 0.5], [0.2, 0.2], [0.1, 0.3], [0.1, 0.1]])
    inherited = [0.5, 0.55, 0.2, 0.3, 0.25, 0.3]
    found = ranking.figures(known, inherited)
    assert found.tau == pytest.approx(scipy.stats.kendalltau(inherited, known.mean)[0])
    assert found.rho == pytest.approx(scipy.stats.spearmanr(inherited, known.mean)[0])
    assert found.gap == pytest.approx(np.mean(inherited) - known.mean.mean())
    assert found.absolute_gap == pytest.approx(np.abs(np.array(inherited) - known.mean).mean())
    assert ranking.figures(known, [1.0] * 6).tau == 0, "a collapsed supernet orders nothing"


def test_regret_is_of_the_five_best_by_inherited_rank() -> None:
    known = truth([[0.1, 0.1], [0.2, 0.2], [0.3, 0.3], [0.4, 0.4], [0.5, 0.5], [0.6, 0.6]])
    assert ranking.figures(known, [6, 5, 4, 3, 2, 1]).regret == pytest.approx(0.1)
    assert ranking.figures(known, [5, 6, 4, 3, 2, 1]).regret == pytest.approx(0.0)


def test_the_floor_knows_noise_and_sizes() -> None:
    exact = ranking.floor(truth([[0.1, 0.1], [0.2, 0.2], [0.3, 0.3], [0.4, 0.4]]))
    assert exact.repetition == exact.ceiling == 1 and exact.deviation == 0
    assert (exact.params, exact.macs) == (-1, 1)
    noisy = ranking.floor(truth([[0.1, 0.2], [0.2, 0.1], [0.3, 0.4], [0.4, 0.3]]))
    assert noisy.repetition == pytest.approx(1 / 3) and noisy.deviation == pytest.approx(0.1 / 2**0.5)
    assert noisy.repetition < noisy.ceiling < 1


def test_the_ceiling_is_what_a_perfect_predictor_has() -> None:
    rng = np.random.default_rng(0)
    true, noise = rng.normal(size=300), 0.5
    seen = true + noise * rng.normal(size=300)
    assert ranking.tau_of_perfection(seen, noise) == pytest.approx(scipy.stats.kendalltau(true, seen)[0], abs=0.05)


def test_best_are_those_of_the_lowest_rank_sum() -> None:
    toy = find(TOY)
    tasks = {"a": dataclasses.replace(toy, name="a"), "b": dataclasses.replace(toy, name="b")}
    swaps = {"uniform": (0, 2), "fair": (1, 0), "sandwich": (2, 1), "sorted": (3, 3)}
    held = {
        job(strategy, seed=seed, task=task): ordered(number)
        for strategy, numbers in swaps.items()
        for task, number in zip("ab", numbers, strict=True)
        for seed in (0, 1)
    }
    held[job("fair", seed=2, task="a")] = Outcome(error="no")
    held[job("deps", task="a")] = ordered(0)  # not run on the other task
    held[job("sorted", "split", task="a")] = held[job("sorted", "split", task="b")] = ordered(0)
    assert ranking.rank_sums(tasks, held) == {"fair": 3, "uniform": 4, "sandwich": 5, "sorted": 8}
    assert ranking.best_two(tasks, held) == ("fair", "uniform")
    with pytest.raises(ranking.NothingBest, match="0 strategies have runs on every task"):
        ranking.best_two(tasks, {})


def test_gaps_of_errors_are_told_in_points() -> None:
    toy = find(TOY)
    held = {job(): outcome(*(toy.mean + 0.015)), job(seed=1): outcome(*(toy.mean + 0.025))}
    from benchmarks.ranking.grouping import of_task

    said = text({TOY: toy}, held, {TOY: of_task(toy, held)}, "p.png", 1)
    assert "| 1.000 (1.000 to 1.000) | 0.00 (0.00 to 0.00) | +2.00 (+1.75 to +2.25) | 2.00 (1.75 to 2.25) |" in said


# --- several processes --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_processes_share_the_work(tmp_path: Path) -> None:
    jobs = [job(seed=seed) for seed in range(3)]
    shared = dict(work.done(jobs, 2, run.run, rows.died))
    for one in jobs:
        assert shared[one].inherited == run.run(one).inherited


def _dies(one: Job) -> Outcome:
    if one.seed == 1:
        os._exit(9)
    return Outcome(steps=one.seed)


@pytest.mark.slow
def test_a_process_that_dies_fails_what_ran_and_no_more() -> None:
    ended = dict(work.done([job(seed=seed) for seed in range(6)], 2, _dies, rows.died))
    assert len(ended) == 6 and "killed" in ended[job(seed=1)].error
    assert sum(bool(held.error) for held in ended.values()) <= 2
    assert ended[job(seed=5)].steps == 5


def test_a_terminal_has_a_bar(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with (tmp_path / "screen").open("w+") as screen:
        monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
        monkeypatch.setattr(work, "Console", lambda **_: Console(file=screen, force_terminal=True, width=120))
        with work.reporting("stage 1", 2) as say:
            say("image, uniform: tau 0.5")
            say("image, fair: tau 0.6")
        screen.seek(0)
        shown = screen.read()
    assert "image, fair: tau 0.6" in shown and "2/2" in shown and "runs an hour" in shown
