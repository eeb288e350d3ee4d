"""The life of a run, on a space and data so small that all of it takes seconds."""

import importlib.util
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nas import targets
from nas.errors import NasError
from nas.execution.placement import Placement
from nas.predictors import Ridge
from nas.records import Evaluation
from nas.results import front
from nas.run import Run, RunError
from nas.run_file import load
from nas.stages import evaluators, studying, verifying
from nas.stages.evaluators import COSTS
from nas.stages.exporting import write
from nas.stages.latency import Latency
from nas.stages.measuring import measured
from nas.stages.networks import finetune, scores
from nas.stages.parent import settle_limits
from nas.stages.predicting import latencies
from nas.stages.studying import open_study
from nas.stages.trust import TrustStage
from nas.stages.verifying import dominated_share, verify
from nas.stages.workflow import Workflow
from nas.storage import Repository
from nas.targets import CPUTarget
from search_spaces import Architecture
from supernets import calibrate, training
from supernets.checkpoints import CheckpointError
from supernets.distillation import Custom, Distilled, Observed
from supernets.distillation.comparing import divergence
from supernets.errors import SupernetError
from tests.nas.command import TINY

LATENCY = ("error", "latency_ms@cpu")


@pytest.fixture(scope="module")
def run() -> Run:
    return load(TINY)


@pytest.fixture(scope="module")
def place(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the tiny run was made from beginning to end, once."""
    folder = tmp_path_factory.mktemp("tiny")
    with opened(run, folder) as workflow:
        whole(workflow)
    return folder


@pytest.fixture
def quick_target(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measures for a moment, and what is learnt from it is fitted in no time."""
    monkeypatch.setitem(targets.TARGETS, "cpu", partial(CPUTarget, budget_s=0.02, warmup=1))  # type: ignore[arg-type]
    monkeypatch.setattr("nas.stages.latency.Ensemble", Ridge)


def opened(run: Run, folder: Path) -> Workflow:
    repository = Repository(f"sqlite:///{folder / 'nas.db'}")
    return Workflow(run, repository, folder / "runs" / run.name, TINY, progress=False)


def whole(workflow: Workflow) -> list[Evaluation]:
    """All steps; the front."""
    study = open_study(workflow, latencies(workflow))
    found = study.run(workflow.run.evaluations)
    verify(workflow, study.name)
    TrustStage(workflow).run()
    return found


def test_all_that_was_found_is_stored(run: Run, place: Path) -> None:
    with Repository(f"sqlite:///{place / 'nas.db'}", read_only=True) as stored:
        study = stored.study("tiny")
        assert (study.status, study.objectives, study.run_file) == ("finished", run.objectives, str(TINY))
        (supernet,) = stored.supernets()
        assert (supernet.digest, supernet.steps, supernet.task_digest) == (study.supernet_digest, 40, run.task.digest)
        assert {(p.step, p.which) for p in stored.curve(supernet.digest)} == {
            (step, which) for step in (20, 40) for which in ("smallest", "random", "largest", "train")
        }
        evaluations = stored.evaluations("tiny")
        assert len({e.arch for e in evaluations}) == len(evaluations) == 30
        assert all({"error", "loss", "params"} <= e.metrics.keys() for e in evaluations)
        rows = front.front(stored, "tiny")
        assert len(rows) > 2
        assert all(row.verified.keys() == {"test_error", "macs", "activation_bytes"} for row in rows)
        trust = stored.trust(supernet.digest)
        assert trust is not None and len(trust.rows) == 3 and all(len(row["again"]) == 1 for row in trust.rows)
        assert (trust.steps, trust.metric, len(trust.gaps), len(trust.baselines)) == (5, "error", 3, 2)


def test_a_second_call_computes_nothing_again(run: Run, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> Any:
        raise AssertionError("computed again")

    monkeypatch.setattr(training.Loop, "_step", never)
    monkeypatch.setattr(calibrate, "evaluate", never)
    monkeypatch.setattr(type(run.task), "evaluate", never)
    monkeypatch.setattr("supernets.scaled.train_network", never)
    with opened(run, place) as workflow:
        before = workflow.repository.evaluations("tiny"), workflow.repository.supernets()
        found = whole(workflow)
        assert workflow.result.resumed_from == 40
        assert (workflow.repository.evaluations("tiny"), workflow.repository.supernets()) == before
        assert {e.arch for e in found} == {row.arch for row in front.front(workflow.repository, "tiny")}


def test_another_study_of_the_same_weights_takes_over_what_is_known(
    run: Run, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    evaluate = evaluators.SubnetEvaluator.__call__

    def counting(self: evaluators.SubnetEvaluator, arch: Any) -> dict[str, float]:
        asked.append(arch.digest)
        return evaluate(self, arch)

    monkeypatch.setattr(evaluators.SubnetEvaluator, "__call__", counting)
    with opened(run, place) as workflow:
        known = {e.arch.digest for e in workflow.repository.evaluations("tiny")}
        study = open_study(workflow, {}, name="tiny again")
        study.run(40)
    assert len(study.evaluations) == 40
    assert set(asked) == {e.arch.digest for e in study.evaluations} - known
    assert len(asked) == 10


def test_what_the_front_says_is_what_the_exported_network_does(run: Run, place: Path, tmp_path: Path) -> None:
    """To the last sample: the same predictions, and the same share of errors, on both held-out splits."""
    with opened(run, place) as workflow:
        normed = 0
        for row in front.front(workflow.repository, "tiny"):
            network = workflow.network(row.arch)
            exported = write(workflow, row.arch, tmp_path / row.arch.digest, ("safetensors",), row.values())
            taken_home = rebuilt(exported.directory)
            assert "supernets" not in type(taken_home).__module__
            told = {"error": row.metrics["error"], "test_error": row.verified["test_error"]}
            assert scores(workflow, taken_home) == told
            for split in ("valid", "test"):
                inputs = run.task.splits[split].inputs  # type: ignore[attr-defined]
                with torch.inference_mode():
                    assert torch.equal(network(inputs), taken_home(inputs))
                    wrong = taken_home(inputs).argmax(-1) != run.task.splits[split].targets  # type: ignore[attr-defined]
                name = "error" if split == "valid" else "test_error"
                assert float(wrong.sum()) / len(wrong) == row.values()[name]
            normed += row.arch["norm"] == "batch"
        assert normed, "the front of this run has networks with batch norm, whose statistics must match"


def rebuilt(folder: Path) -> torch.nn.Module:
    """The network by the exported load.py alone."""
    spec = importlib.util.spec_from_file_location(f"load_{folder.name}", folder / "load.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    network: torch.nn.Module = module.load()
    return network.eval()


# --- latency


class Counter:
    networks = 0


@pytest.fixture
def measuring(run: Run, place: Path, quick_target: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter]:
    counter = Counter()
    measure = CPUTarget.measure

    def counted(self: CPUTarget, modules: Any, *arguments: Any) -> Any:
        counter.networks += len(modules)
        return measure(self, modules, *arguments)

    monkeypatch.setattr(CPUTarget, "measure", counted)
    yield counter


def test_a_latency_is_measured_once_for_each_network_and_machine(
    run: Run, tmp_path: Path, measuring: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed = replace(run, objectives=LATENCY)

    def predictors(run: Run) -> dict[str, Latency]:
        with opened(run, tmp_path) as workflow:
            return latencies(workflow)

    assert set(predictors(timed)) == {"cpu"}
    assert measuring.networks == 6
    predictors(timed)
    predictors(replace(timed, seed=0, name="namesake"))
    assert measuring.networks == 6
    wider = replace(
        timed, name="wider", build=lambda arch: torch.nn.Sequential(run.build(arch), torch.nn.Linear(10, 10))
    )
    predictors(wider)
    assert measuring.networks == 12, "the same choices in another model are another network"
    monkeypatch.setattr(CPUTarget, "describe", lambda self: {"processor": "another one"})
    predictors(wider)
    assert measuring.networks == 18, "the same name on another machine is another target"


def test_latencies_of_another_batch_are_others(run: Run, tmp_path: Path, quick_target: None) -> None:
    run = replace(run, objectives=("error", "latency_ms@cpu"))
    archs = run.space.sample_many(3, np.random.default_rng(0), distinct=True)
    with opened(run, tmp_path) as workflow:
        one = measured(workflow, workflow.targets["cpu"], archs)
        open_study(workflow, latencies(workflow))
    with opened(replace(run, latency_batch=4), tmp_path) as workflow:
        four = measured(workflow, workflow.targets["cpu"], archs)
        with pytest.raises(NasError, match="latency_batch"):
            open_study(workflow, {})
    assert [m.conditions["batch"] for m in (*one, *four)] == [1] * 3 + [4] * 3


def test_predicted_latencies_are_objectives_and_the_front_is_measured(
    run: Run, tmp_path: Path, quick_target: None
) -> None:
    timed = replace(run, objectives=LATENCY, evaluations=6, trust=0)
    with opened(timed, tmp_path) as workflow:
        study = open_study(workflow, latencies(workflow))
        found = study.run(6)
        verified = verify(workflow, study.name)
        (target,) = workflow.repository.targets()
    assert target.name == "cpu"
    assert all(e.metrics["latency_ms@cpu"] > 0 for e in found)
    assert all(verified[e.arch.digest]["latency_ms@cpu"] > 0 for e in found)


class Thrice:
    """Predicts one millisecond of every network, and bounds that grow with the coverage."""

    def predict(self, archs: Sequence[Architecture]) -> tuple[np.ndarray, np.ndarray]:
        return np.ones(len(archs)), np.zeros(len(archs))

    def upper(self, archs: Sequence[Architecture], coverage: float) -> np.ndarray:
        return np.full(len(archs), 10 * coverage)


@pytest.mark.parametrize(("bound", "keeps"), [(7.9, False), (8.1, True)])
def test_limits_are_checked_on_bounds_of_the_coverage_asked_for(
    bound: float, keeps: bool, run: Run, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(studying, "settle_limits", lambda workflow: None)
    limited = replace(run, limits=(f"latency_ms@cpu <= {bound}",), coverage=0.8)
    with opened(limited, place) as workflow:
        study = open_study(workflow, {"cpu": Thrice()}, name=f"bounded {bound}")  # type: ignore[dict-item]
        assert study._screen is not None
        assert study._screen([run.space.smallest(), run.space.largest()]).tolist() == [keeps] * 2


def test_a_network_that_breaks_a_limit_as_measured_gives_its_place_to_the_next(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Architecture] = []

    def as_measured(workflow: Workflow, arch: Architecture) -> dict[str, float]:
        asked.append(arch)
        return {"params": 2e6 if len(asked) <= 2 else 1.0}

    monkeypatch.setattr(verifying, "_verified", as_measured)
    limited = replace(run, objectives=("error", "params"), limits=("params <= 1e6",), evaluations=20, trust=0)
    with opened(limited, tmp_path) as workflow:
        first = open_study(workflow, {}).run(20)
        verified = verify(workflow, "tiny")
        rows = front.front(workflow.repository, "tiny")
    assert [arch.digest for arch in asked] == list(verified) == list(dict.fromkeys(verified))
    assert {e.arch for e in first} <= set(asked)
    assert {row.arch for row in rows if row.broken} == set(asked[:2])
    assert {row.arch for row in rows} == set(asked)
    kept = np.array([[row.metrics[name] for name in limited.objectives] for row in rows if not row.broken])
    for left in workflow.repository.evaluations("tiny"):
        if left.arch not in asked[:2]:
            assert (kept <= [left.metrics[name] for name in limited.objectives]).all(axis=1).any()


def test_a_search_for_networks_that_keep_their_limits_ends(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verifying, "_verified", lambda workflow, arch: {"params": 2e6})
    limited = replace(run, objectives=("error", "params"), limits=("params <= 1e6",), trust=0)
    with opened(limited, tmp_path) as workflow:
        num_first = len(open_study(workflow, {}).run(30))
        assert len(verify(workflow, "tiny")) == min(30, max(10, 2 * num_first))


def test_latencies_are_predicted_from_counts_too(run: Run, tmp_path: Path, quick_target: None) -> None:
    timed = replace(run, objectives=LATENCY)
    with opened(timed, tmp_path) as workflow:
        found = latencies(workflow)["cpu"]
        (stored,) = workflow.repository.predictors("cpu")
        assert '"features":"counts"' in stored.content
        again = latencies(workflow)["cpu"]
    archs = run.space.sample_many(5, np.random.default_rng(0))
    assert np.array_equal(found.codes, again.codes)
    np.testing.assert_allclose(found.predict(archs)[0], again.predict(archs)[0])


def test_a_space_smaller_than_what_is_to_be_measured_is_measured_whole(
    run: Run, tmp_path: Path, quick_target: None
) -> None:
    space = run.space.at(depth=0)
    small = replace(run, space=space, objectives=LATENCY, measured=40)
    with opened(small, tmp_path) as workflow:
        latencies(workflow)
        assert len(workflow.repository.measurements("cpu")) == space.count() == 8


# --- trust, fine-tuning, and what is odd


def test_a_training_alone_that_diverges_is_stored_and_not_repeated(
    run: Run, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[object] = []

    def diverging(module: torch.nn.Module, *_: object, **__: object) -> None:
        trained.append(module)
        raise training.TrainingError("no finite loss")

    monkeypatch.setattr("supernets.scaled.train_network", diverging)
    other = replace(run, training=replace(run.training, steps=3))
    for _ in range(2):
        with opened(other, tmp_path) as workflow:
            report = TrustStage(workflow).run()
            stored = workflow.repository.trust(workflow.weights)
        assert report is not None
        assert stored is not None and [row["standalone"] for row in stored.rows] == [None] * 3
        assert stored.tau is None and report.tau is None and stored.level == "unknown"
        assert [(row.standalone, row.again) for row in report.rows] == [(math.inf, (math.inf,))] * 3
    assert len(trained) == 6


def test_a_trust_report_costs_its_share(run: Run, tmp_path: Path) -> None:
    """Of a step's four passes none is dearer than the largest network's."""
    longer = replace(run.training, steps=60)
    shared = replace(run, trust=5.0, trust_networks=None, trust_steps=None, training=longer)
    with opened(shared, tmp_path) as workflow:
        plan = TrustStage(workflow).plan
        assert plan.archs == TrustStage(workflow).planned().archs, "without a study there is no front"
        assert len(plan.archs) >= 8 and plan.steps >= 50 and 3 < plan.share <= 5
        report = TrustStage(workflow).run()
        stored = workflow.repository.trust(workflow.weights)
        assert report is not None
        assert stored is not None and stored.share == pytest.approx(plan.share) and stored.steps == plan.steps
        spent = sum((1 + len(row.again)) * row.macs for row in report.rows) * plan.steps
        largest = workflow.supernet.profile(run.space.largest(), run.task.example()).macs
        assert spent < 5 * 4 * largest * shared.training.steps


def test_a_share_that_decides_nothing_is_not_spent(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("supernets.scaled.train_network", lambda *_, **__: pytest.fail("nothing is to be trained"))
    with opened(replace(run, trust=0.1, trust_networks=None, trust_steps=None), tmp_path) as workflow:
        plan = TrustStage(workflow).plan
        assert plan.refused.startswith("trust=0.1 pays for ") and "so none are trained; trust=" in plan.refused
        assert TrustStage(workflow).run() is None and workflow.repository.trust(workflow.weights) is None


def test_labels_are_kept_when_the_front_moves(run: Run, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks of another front are not trained where as many are known."""
    monkeypatch.setattr("supernets.scaled.train_network", lambda *_, **__: pytest.fail("nothing is to be trained"))
    with opened(run, place) as workflow:
        known = {row["digest"] for row in stored_rows(workflow)}
        other = [arch for arch in run.space.enumerate() if arch.digest not in known][:5]
        monkeypatch.setattr(TrustStage, "_front", lambda self: other)
        assert {arch.digest for arch in TrustStage(workflow).plan.archs} != known
        assert TrustStage(workflow).is_known()
        TrustStage(workflow).run()
        assert {row["digest"] for row in stored_rows(workflow)} == known


class Stopped(Exception):
    pass


def test_a_stopped_trust_report_goes_on_and_trains_nothing_twice(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six trainings, of three networks twice; the third and the sixth call are stopped before they train."""
    trained: list[tuple[str, int]] = []
    calls: list[int] = []
    train_network = training.train_network

    def stopping(module: torch.nn.Module, task: Any, config: training.TrainingConfig, **more: Any) -> Any:
        calls.append(len(calls))
        if len(calls) in (3, 6):
            raise Stopped
        trained.append((more["directory"].name.partition("-")[0], config.seed))
        return train_network(module, task, config, **more)

    monkeypatch.setattr("supernets.scaled.train_network", stopping)
    told: list[tuple[int, int]] = []
    for _ in range(2):
        with opened(run, tmp_path) as workflow, pytest.raises(Stopped):
            assert not TrustStage(workflow).is_known()
            TrustStage(workflow).run(lambda done, total: told.append((done, total)))
    with opened(run, tmp_path) as workflow:
        TrustStage(workflow).run(lambda done, total: told.append((done, total)))
        assert TrustStage(workflow).is_known()
        found = stored_rows(workflow)
    assert told == [(done, 6) for done in (0, 1, 2, 2, 3, 4, 4, 5, 6)]
    assert trained == [(row["digest"], seed) for seed in (0, 1) for row in found]
    (tmp_path / "whole").mkdir()
    with opened(run, tmp_path / "whole") as workflow:
        TrustStage(workflow).run()
        whole = stored_rows(workflow)
    assert [{**row, "seconds": 0} for row in found] == [{**row, "seconds": 0} for row in whole]


def test_a_larger_trust_report_takes_over_what_is_known_and_other_steps_nothing(run: Run, place: Path) -> None:
    with opened(run, place) as workflow:
        known = {row["digest"] for row in stored_rows(workflow)}
    with opened(replace(run, trust_networks=104), place) as workflow:
        assert known <= {arch.digest for arch in TrustStage(workflow).plan.archs}
        assert set(TrustStage(workflow).known_rows()) == known and not TrustStage(workflow).is_known()
    with opened(replace(run, trust_steps=6), place) as workflow:
        assert TrustStage(workflow).known_rows() == {} and not TrustStage(workflow).is_known()


def stored_rows(workflow: Workflow) -> list[dict[str, Any]]:
    stored = workflow.repository.trust(workflow.weights)
    return list(stored.rows) if stored else []


def test_settings_without_a_json_form_are_stored(run: Run, tmp_path: Path) -> None:
    with opened(replace(run, training=replace(run.training, steps=2, clip=math.inf)), tmp_path) as workflow:
        assert workflow.repository.supernet(workflow.weights).settings["clip"] is None


def test_fine_tuning_goes_on_only_with_its_own_settings(run: Run, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(run, place) as workflow:
        arch = front.best(workflow.repository, "tiny").arch
        config = replace(run.training, steps=4, lr=1e-3)
        first, result = finetune(workflow, arch, config)
        again, found = finetune(workflow, arch, config)
        other, _ = finetune(workflow, arch, replace(config, steps=6))
    assert (result.resumed_from, found.resumed_from) == (0, 4)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))


def test_a_front_is_compared_with_networks_drawn_at_random(run: Run, place: Path) -> None:
    with opened(run, place) as workflow:
        study = open_study(workflow, {})
        assert 0.5 < dominated_share(workflow, study, 20) <= 1
        assert dominated_share(workflow, study, 20) == dominated_share(workflow, study, 20)
        study._placed.clear()
        assert dominated_share(workflow, study, 20) == 0


def test_weights_that_are_not_those_of_the_study_are_refused(run: Run, place: Path, tmp_path: Path) -> None:
    with opened(run, place) as workflow:
        workflow.require_trained("tiny")
        elsewhere = replace_folder(workflow, tmp_path)
        with pytest.raises(NasError, match=r"holds no finished training of 'tiny': train it with nas train$"):
            elsewhere.require_trained("tiny")
        longer = replace(run, training=replace(run.training, steps=2))
        other = Workflow(longer, workflow.repository, tmp_path, TINY, progress=False)
        assert other.weights != workflow.weights
        with pytest.raises(
            NasError, match=rf"with the weights {workflow.weights}, and .* holds {other.weights}: bring"
        ):
            other.require_trained("tiny")


def replace_folder(workflow: Workflow, folder: Path) -> Workflow:
    return Workflow(workflow.run, workflow.repository, folder, TINY, progress=False)


def test_a_training_of_other_settings_is_not_gone_on_with(run: Run, place: Path) -> None:
    told = r"checkpoints of another training: config\.lr is 0\.01 there and 0\.5 here"
    other = replace(run, training=replace(run.training, lr=0.5))
    with opened(other, place) as workflow, pytest.raises(SupernetError, match=told):
        _ = workflow.supernet


def test_workers_need_a_run_file_and_a_cluster_ray(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with Repository("sqlite://") as repository:
        with pytest.raises(NasError, match="start the search from a run file"):
            Workflow(run, repository, Path("runs"), placement=Placement(workers=2))
        with pytest.raises(NasError, match="start the search from a run file"):
            Workflow(replace(run, timeout_s=9.0), repository, Path("runs"))
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        with pytest.raises(NasError, match=r"pip install nas\[ray\]"):
            Placement("local")


def test_progress_is_told(run: Run, place: Path) -> None:
    ticks: list[tuple[int, int]] = []
    with opened(run, place) as workflow:
        TrustStage(workflow).run(lambda done, total: ticks.append((done, total)))
        verify(workflow, "tiny", lambda done, total: ticks.append((done, total)))
    assert ticks[0] == (6, 6) and ticks[-1][0] == ticks[-1][1] > 2


def test_a_worker_builds_the_evaluator_from_the_file_and_the_checkpoint(run: Run, place: Path) -> None:
    evaluate = evaluators.load_evaluator(
        str(TINY), str(place / "runs" / "tiny" / "supernet"), run.sharing, run.training
    )
    with opened(run, place) as workflow:
        stored = workflow.repository.evaluations("tiny")[:5]
    for evaluation in stored:
        found = evaluate(evaluation.arch)
        assert found == {name: evaluation.metrics[name] for name in found}


def test_costs_are_arrays_by_name(run: Run, place: Path) -> None:
    with opened(run, place) as workflow:
        model = evaluators.CostModel(workflow.supernet, run.task, {})
    archs = [run.space.smallest(), run.space.largest()]
    assert {name: values.shape for name, values in model(archs).items()} == dict.fromkeys(COSTS, (2,))
    assert np.array_equal(model(archs)["params"], [610, 8962])
    assert len(model(archs)) == 3


def test_limits_relative_to_the_parent_are_kept_and_known_to_the_study(run: Run, tmp_path: Path) -> None:
    halved = replace(run, limits=("params <= 0.5x",), evaluations=12)
    with opened(halved, tmp_path) as workflow:
        parent = workflow.initial.count_parameters(run.space.largest())
        study = open_study(workflow, latencies(workflow))
        study.run(12)
        assert workflow.run.limits == (f"params <= {parent / 2:.6g}".removesuffix(".0"),)
        assert all(evaluation.metrics["params"] <= parent / 2 for evaluation in study.evaluations)
        rows = front.front(workflow.repository, "tiny", where=("params <= 0.25x",))
        assert rows and all(row.metrics["params"] <= parent / 4 for row in rows)
    with opened(halved, tmp_path) as again:
        assert len(open_study(again, latencies(again)).evaluations) == 12


@pytest.mark.parametrize("searcher", ["surrogate", "additive"])
def test_a_cost_of_ones_own_is_limited_and_an_objective(run: Run, searcher: str, tmp_path: Path) -> None:
    def cost(arch: Architecture) -> float:
        return float(10 * sum(run.space.codes([arch])[0]))

    largest = cost(run.space.largest())
    own = replace(
        run,
        extra_costs={"places": cost, "idle": lambda arch: math.nan},
        objectives=("error", "places"),
        limits=("places <= 0.5x",),
        searcher=searcher,
        evaluations=8,
    )
    with opened(own, tmp_path) as workflow:
        study = open_study(workflow, latencies(workflow))
        study.run(8)
        assert workflow.run.limits == (f"places <= {largest / 2:.6g}",)
        assert all(e.metrics["places"] == cost(e.arch) for e in study.evaluations)
        kept = [e.metrics["places"] <= largest / 2 for e in study.evaluations]
        assert any(kept) if searcher == "additive" else all(kept)  # additive looks at options of the parent first
    other = replace(own, extra_costs={"places": lambda arch: cost(arch) + 1})
    with opened(other, tmp_path) as again, pytest.raises(NasError, match=r"places"):
        open_study(again, latencies(again))


def test_a_cost_of_ones_own_needs_a_name_a_function_and_finite_numbers(run: Run) -> None:
    for wrong, line in (
        ({"params": len}, r"a cost called 'params': give it a name of letters"),
        ({"a b": len}, r"a cost called 'a b'"),
        ({"mine": 3}, r"extra_costs\['mine'\] = 3: give a function of an architecture"),
    ):
        with pytest.raises(RunError, match=line):
            replace(run, extra_costs=wrong)
    with pytest.raises(RunError, match=r"'mine' is no metric of this run: choose of .*yours"):
        replace(run, extra_costs={"yours": lambda arch: 1.0}, limits=("mine <= 2",))
    silent = replace(run, extra_costs={"mine": lambda arch: math.nan}, limits=("mine <= 2",))
    with pytest.raises(RunError, match=r"extra_costs\['mine'\] gave nan for .*it must give a finite number"):
        silent.told_costs["mine"](run.space.smallest())


def test_a_limit_relative_to_the_parents_latency_is_a_multiple_of_what_was_measured(
    run: Run, tmp_path: Path, quick_target: None
) -> None:
    relative = replace(run, objectives=LATENCY, targets=("cpu <= 0.9x",))
    with opened(relative, tmp_path) as workflow:
        settle_limits(workflow)
        (bound,) = (limit.value for limit in workflow.run.all_limits)
        (parent,) = measured(workflow, workflow.targets["cpu"], [run.space.largest()])
        assert bound == pytest.approx(0.9 * parent.median_ms, rel=1e-5)


def test_a_limit_relative_to_the_error_of_untrained_weights_is_refused(run: Run, tmp_path: Path) -> None:
    with (
        opened(replace(run, limits=("error <= 1.1x",)), tmp_path) as workflow,
        pytest.raises(NasError, match=r"relative to the parent's error, and .* not trained: write init="),
    ):
        latencies(workflow)


def test_weights_may_stay_as_they_are(run: Run, tmp_path: Path) -> None:
    kept = replace(run, training=replace(run.training, steps=0), trust=0.3, evaluations=8)
    with opened(kept, tmp_path) as workflow:
        before = workflow.initial.digest()
        study = open_study(workflow, latencies(workflow))
        study.run(8)
        assert workflow.weights == before and workflow.run.trust == 0
        assert {point.step for point in workflow.result.curve} == {0}
        workflow.require_trained("tiny")
    with opened(kept, tmp_path) as again:
        assert len(open_study(again, latencies(again)).evaluations) == 8


def test_a_run_whose_task_is_taught_distils_in_all_it_trains(run: Run, tmp_path: Path) -> None:
    """The supernet, the networks of the trust report and fine-tuning; fidelity to the parent is an objective."""
    heard: list[bool] = []

    def near(student: Observed, taught: Observed) -> torch.Tensor:
        heard.append(student.outputs.requires_grad)
        return divergence(student.outputs, taught.outputs)

    with torch.random.fork_rng():
        parent = run.build(run.space.largest())
    task = Distilled(run.task, parent, [Custom(near)], labels=0, fidelity="kl")
    taught = replace(run, name="taught", task=task, objectives=("kl", "params"), evaluations=6)
    with opened(taught, tmp_path) as workflow:
        found = whole(workflow)
        assert found and all(one.metrics["kl"] > 0 and "error" in one.metrics for one in found)
        assert all(heard) and len(heard) >= 40
        trained = len(heard)
        config = replace(taught.training, steps=3, strategy="uniform")
        network, result = finetune(workflow, found[0].arch, config)
        assert len(heard) == trained + 3 and result.losses[-1] < 2
        assert type(network) is type(parent)


@pytest.mark.parametrize("sharing", ["entangled", "lowrank(rank=2)"])
def test_units_are_sorted_before_training_and_a_stopped_run_goes_on_with_them(
    run: Run, tmp_path: Path, sharing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    parent = run.build(run.space.largest())
    ordered = replace(run, init=parent, sort="magnitude", sharing=sharing, trust=0, evaluations=6)
    example = run.task.example(5)
    with opened(ordered, tmp_path) as workflow:
        moved = workflow.initial.state_dict()["0.weight"]
        assert not torch.equal(moved, parent[0].weight)  # type: ignore[index]
        same = workflow.initial.extract(run.space.largest()).eval()(example)
        torch.testing.assert_close(same, parent.eval()(example), rtol=1e-5, atol=1e-5)
        weights = workflow.weights
    with monkeypatch.context() as patched, opened(ordered, tmp_path) as again:
        patched.setattr(evaluators, "sort_units", None)  # nothing is put in order a second time
        assert again.weights == weights
    with opened(replace(ordered, sort="taylor"), tmp_path) as other, pytest.raises(CheckpointError, match="origin is"):
        other.weights  # noqa: B018 - trains, or refuses to go on
