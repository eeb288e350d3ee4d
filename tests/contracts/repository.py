"""What the repository promises on every database. Subclass, and give `url`: a fresh, empty database for each test."""

import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from benchmarks.storage.writers import WRITERS, written
from nas.errors import NasError
from nas.migrations import tables
from nas.records import (
    CurvePoint,
    Distribution,
    Evaluation,
    Life,
    Measurement,
    Origin,
    PredictorRecord,
    SpaceRecord,
    StudyRecord,
    SupernetRecord,
    TargetRecord,
    Trust,
)
from nas.storage import Repository
from search_spaces import Space, choice

SPACE = SpaceRecord("space-1", "Net", {"width": {"options": [1, 2], "when": None}})
SUPERNET = SupernetRecord(
    "weights-1", "space-1", "net", "entangled", "runs/a.safetensors", "task", 100, {"lr": 0.1}, "t1"
)
STUDY = StudyRecord("first", "space-1", None, ("error", "params"), ("params <= 10",), "random", 7, {"batch": 4})

WRITER = """
import sys
from nas.records import Evaluation
from nas.storage import Repository
from search_spaces import Architecture
repository = Repository(sys.argv[1])
for start in range(0, 1_000_000, 5):
    archs = [Architecture.from_json('{"is":"Net","width":%d}' % i) for i in range(start, start + 5)]
    repository.append_evaluations("first", [Evaluation(arch, {"error": 0.5}) for arch in archs], "w", "d")
    print(start + 5, flush=True)
"""


class Net(Space):
    width = choice(*range(1, 1001))
    depth = choice(1, 2, 3)
    kernel = choice(3, 5, 7, per="depth")


def evaluation(i: int, **changes: Any) -> Evaluation:
    arch = Net().architecture({"width": i + 1, "depth": 2, "kernel": [3, 5]})
    return replace(Evaluation(arch, {"error": i / 7, "params": i}, None, i / 3, f"worker-{i % 2}"), **changes)


def batch(*numbers: int) -> list[Evaluation]:
    return [evaluation(i) for i in numbers]


def digests(*numbers: int) -> list[str]:
    return [evaluation(i).arch.digest for i in numbers]


CPU = TargetRecord("cpu", "cpu", {"processor": "x", "threads": 1}, {"budget_s": 0.5})
OTHER_CPU = replace(CPU, description={"processor": "y", "threads": 1})


def measurement(i: int, target: TargetRecord = CPU, **changes: Any) -> Measurement:
    arch = evaluation(i).arch
    found = Measurement(
        *(arch.digest, arch.json(), target.name, target.version, "network-1", 1.5 + i, 0.1, 30),
        conditions={"threads": 1, "shapes": [[1, 3]]},
        peak_bytes=2**40,
        energy_mj=0.25,
        notes=("became 7 % slower",),
        created="t1",
    )
    return replace(found, **changes)


def predictor(target: TargetRecord = CPU, **changes: Any) -> PredictorRecord:
    quality = {"spearman": 0.9, "mape": None, "measurements": 40}
    found = PredictorRecord(
        target.name, target.version, "space-1", "network-1", "ridge", quality, '{"codes": [[0]]}', ("few",), "t1"
    )
    return replace(found, **changes)


def learnt(label: str = "", **changes: Any) -> Distribution:
    vectors = {"width": [[0.25, 0.75], [0.1, 0.9]], "kernel.0": [[1.0], [1.0]]}
    arch = evaluation(0).arch.json()
    found = Distribution("first", "drnas", label, (0, 10), vectors, arch, ("collapsed \x00",), {"steps": 10}, 2.5)
    return replace(found, **changes)


def with_study(repository: Repository, *names: str) -> Repository:
    repository.add_space(SPACE)
    for name in names or ("first",):
        repository.create_study(replace(STUDY, name=name))
    return repository


def jump(repository: Repository, hours: float) -> None:
    """Sets the database's clock, as this repository reads it."""
    repository._clock = repository._clock + 3600.0 * hours


class RepositoryContract:
    @pytest.fixture
    def url(self) -> str:
        pytest.fail("supply the fixture `url`")

    @pytest.fixture
    def repository(self, url: str) -> Iterator[Repository]:
        with Repository(url) as repository:
            yield with_study(repository)

    # --- records

    def test_lives_are_told_beside_evaluations_and_change_none(self, url: str) -> None:
        origin = Origin("crossover, then mutation", ("a" * 16, "b" * 16))
        with with_study(Repository(url), "first", "second") as repository:
            before = time.time()
            repository.store_evaluations("first", {0: evaluation(0)}, "w", "d", {0: Life(origin=origin)})
            repository.store_evaluations("first", {0: evaluation(0)}, "w", "d")
            repository.store_evaluations("second", {0: evaluation(0)}, "w", "d", {0: Life(stored=12.5)})
            life = repository.lives("first")[0]
            assert life.origin == origin and life.stored is not None
            assert before - 60 < life.stored < time.time() + 60, "the database's clock"
            assert repository.lives("second") == {0: repository.life("second", 0)} == {0: Life(12.5)}
            assert repository.life("first", 0) == life and repository.life("first", 1) == Life()
            assert repository.evaluations("first") == repository.evaluations("second") == batch(0)
            repository.store_evaluations("first", dict(enumerate(batch(1, 2), start=1)), "w", "d", {1: Life()})
            assert repository.life("first", 1) == Life(), "nothing is known of a copied one"
            assert repository.life("first", 2).stored is not None

    def test_spaces_supernets_and_targets_come_back(self, repository: Repository) -> None:
        repository.add_supernet(SUPERNET)
        repository.add_target(CPU)
        assert repository.spaces() == [SPACE]
        assert repository.supernets() == [SUPERNET]
        assert repository.supernet("weights-1") == SUPERNET
        assert repository.targets() == [CPU]

    def test_adding_again_keeps_the_space_and_updates_the_supernet(self, repository: Repository) -> None:
        repository.add_space(SPACE)
        moved = replace(SUPERNET, weights_path="elsewhere/a.safetensors")
        for supernet in (SUPERNET, moved):
            repository.add_supernet(supernet)
        assert repository.spaces() == [SPACE]
        assert repository.supernets() == [moved]

    def test_studies_come_back_in_order(self, repository: Repository) -> None:
        second = replace(STUDY, name="second", supernet_digest="weights-1", run_file="search.py", status="finished")
        repository.add_supernet(SUPERNET)
        assert repository.create_study(second) == second
        assert repository.studies() == [STUDY, second]
        assert repository.study("second") == second

    def test_a_study_that_exists_is_loaded_on_request(self, repository: Repository) -> None:
        with pytest.raises(NasError, match=r"'first' is already in .*; resume it with load_if_exists=True"):
            repository.create_study(STUDY)
        repository.set_status("first", "failed")
        later = replace(STUDY, created="later", run_file="other.py")
        assert repository.create_study(later, load_if_exists=True) == replace(STUDY, status="failed")
        assert repository.create_study(replace(STUDY, name="new"), load_if_exists=True).name == "new"

    def test_another_search_does_not_load(self, repository: Repository) -> None:
        other = replace(STUDY, seed=8, limits=())
        with pytest.raises(
            NasError, match=r"another search \(limits .* there, \[\] here; seed 7 there, 8 here\); take anoth"
        ):
            repository.create_study(other, load_if_exists=True)

    def test_settings_compare_as_json(self, repository: Repository) -> None:
        settings = {"b": (1, 2), "a": None}
        repository.create_study(replace(STUDY, name="tuple", settings=settings))
        again = replace(STUDY, name="tuple", settings={"a": None, "b": [1, 2]})
        assert repository.create_study(again, load_if_exists=True).settings == {"a": None, "b": [1, 2]}

    def test_status(self, repository: Repository) -> None:
        repository.set_status("first", "finished")
        assert repository.study("first").status == "finished"
        with pytest.raises(NasError, match=r"there is no study 'none' in .*; there is: 'first'"):
            repository.set_status("none", "finished")

    # --- drivers

    def test_a_study_runs_as_long_as_somebody_drives_it(self, url: str) -> None:
        with Repository(url) as repository, Repository(url) as reader:
            with_study(repository)
            with repository.driving("first"), repository.driving("first"):
                repository.set_status("first", "running")
                assert reader.study("first").status == "running"
            assert reader.study("first").status == "stopped"
            repository.set_status("first", "finished")
            assert reader.study("first").status == "finished"

    def test_a_second_driver_is_refused_and_changes_nothing(self, url: str) -> None:
        with Repository(url) as one, Repository(url) as two:
            with one.driving("first"):  # which is not there yet
                with pytest.raises(
                    NasError, match=r"study 'first' is driven by process \d+ on .* ago: stop that one, .* under another"
                ):
                    two.driving("first").__enter__()
                with_study(one)
                one.append_evaluations("first", batch(0), "w", "d")
                for late in (
                    lambda: two.append_evaluations("first", batch(1), "w", "d"),
                    lambda: two.set_status("first", "failed"),
                    lambda: two.add_verified("first", {digests(0)[0]: {"error": 0.5}}),
                    lambda: two.put_distributions("first", "k", [learnt()]),
                    lambda: two.delete_study("first"),
                ):
                    with pytest.raises(NasError, match="study 'first' is driven by process"):
                        late()
                assert one.study("first") == STUDY
            with two.driving("first"):
                two.append_evaluations("first", batch(1), "w", "d")
            assert one.evaluations("first") == batch(0, 1)

    def test_what_wakes_up_late_is_refused(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Repository, "_renew", lambda *_: None)  # as in a process that is paused
        with Repository(url) as slept, Repository(url) as other:
            with_study(slept)
            with slept.driving("first", seconds=0.3):
                time.sleep(0.4)
                slept.append_evaluations("first", batch(0), "w", "d")  # nobody else has come
                with other.driving("first"):
                    for late in (
                        lambda: slept.append_evaluations("first", batch(1), "w", "d"),
                        lambda: slept.set_status("first", "failed"),
                    ):
                        with pytest.raises(
                            NasError, match=r"taken over while this process was silent for 0.3 s or more"
                        ):
                            late()
                    other.append_evaluations("first", batch(2), "w", "d")
                with pytest.raises(NasError, match="taken over"):
                    slept.append_evaluations("first", batch(1), "w", "d")
            assert other.evaluations("first") == batch(0, 2)

    @pytest.mark.slow
    def test_eight_processes_write_ten_thousand_evaluations(self, url: str) -> None:
        found = written(url, WRITERS, 1250)
        assert found.errors == [] and len(found.seconds) == 10_000
        with Repository(url, read_only=True) as repository:
            names = [f"study {number}" for number in range(WRITERS)]
            assert repository.num_evaluations() == dict.fromkeys(names, 1250)
            assert [len(repository.columns(name)) for name in names] == [1250] * WRITERS

    def test_a_lease_is_renewed(self, url: str) -> None:
        with Repository(url) as one, Repository(url) as two, one.driving("first", seconds=0.4):
            time.sleep(0.9)
            with pytest.raises(NasError, match="is driven by"):
                two.driving("first").__enter__()

    def test_who_was_killed_is_followed_at_once(self, url: str) -> None:
        with Repository(url) as repository:
            with_study(repository)
            code = (
                "import sys; from nas.storage import Repository; r = Repository(sys.argv[1]); "
                "d = r.driving('first'); d.__enter__(); r.set_status('first', 'running'); "
                "print('driving', flush=True); sys.stdin.read()"
            )
            command = [sys.executable, "-c", code, url]
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
                assert process.stdout and process.stdout.readline() == "driving\n"
                assert repository.study("first").status == "running"
                with pytest.raises(NasError, match=f"is driven by process {process.pid} on"):
                    repository.driving("first").__enter__()
                process.kill()
            assert repository.study("first").status == "stopped"
            with repository.driving("first"):
                assert repository.study("first").status == "running"

    @pytest.mark.parametrize("hours", [1, -1])
    def test_a_clock_that_jumps_changes_no_driver(self, hours: float, url: str) -> None:
        with Repository(url) as one, Repository(url) as two:
            with_study(one)
            with one.driving("first", seconds=1.0):
                one.store_evaluations("first", {0: evaluation(0)}, "w", "d")
                for repository in (one, two):
                    jump(repository, hours)
                with pytest.raises(NasError, match=r"heard of [01] s ago: .* start again in 1 s"):
                    two.driving("first").__enter__()
                one.store_evaluations("first", {1: evaluation(1)}, "w", "d")
                one.set_status("first", "running")
                assert two.study("first").status == "running", "renewed by the clock as it is now"
            with two.driving("first"):
                assert two.evaluations("first") == batch(0, 1)

    def test_who_is_silent_is_followed_whatever_the_clock_says(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Repository, "_renew", lambda *_: None)  # as in a process that is paused
        with Repository(url) as one, Repository(url) as two:
            with_study(one)
            with one.driving("first", seconds=1.0):
                jump(two, -1)
                late = pytest.raises(NasError, match="taken over while this process was silent")
                with two.driving("first", seconds=1.0), late:
                    one.append_evaluations("first", batch(0), "w", "d")

    def test_a_lease_left_by_a_clock_gone_wrong_is_none(self, repository: Repository) -> None:
        repository._taken("first", seconds=1.0)
        with repository._writing() as connection:
            connection.execute(sa.update(tables.leases).values(until=tables.leases.c.until + 1000))
        with repository.driving("first"):
            repository.set_status("first", "running")

    @pytest.mark.parametrize(
        "call",
        [
            lambda r: r.study("absent"),
            lambda r: r.evaluations("absent"),
            lambda r: r.delete_study("absent"),
            lambda r: r.append_evaluations("absent", batch(0), "w", "d"),
        ],
    )
    def test_an_unknown_study_names_those_there_are(self, repository: Repository, call: Any) -> None:
        with pytest.raises(NasError, match=r"there is no study 'absent' in .*; there is: 'first'"):
            call(repository)

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (lambda r: r.supernet("absent"), r"there is no supernet 'absent' in .*; there is: none"),
            (
                lambda r: r.add_supernet(replace(SUPERNET, space_digest="x")),
                r"space 'x' is not in .*; call add_space",
            ),
            (
                lambda r: r.create_study(replace(STUDY, name="b", space_digest="x")),
                "space 'x' or supernet None is not in",
            ),
            (lambda r: r.create_study(replace(STUDY, name="b", supernet_digest="x")), "supernet 'x' is not in"),
            (
                lambda r: r.create_study(replace(STUDY, name="b", settings={"lr": math.nan})),
                "settings cannot be stored",
            ),
            (
                lambda r: r.add_space(replace(SPACE, declaration={"a": object()})),
                "declaration cannot be stored as JSON",
            ),
            (
                lambda r: r.add_measurements([replace(measurement(0), target="gpu")]),
                r"target 'gpu' is not in .* in this version; call add_target",
            ),
            (lambda r: r.put_predictor(predictor()), r"target 'cpu' is not in .* in this version; call add_target"),
            (lambda r: r.target("gpu"), r"there is no target 'gpu' in .*; there is: none"),
        ],
    )
    def test_errors_name_the_remedy(self, repository: Repository, call: Any, message: str) -> None:
        with pytest.raises(NasError, match=message):
            call(repository)

    def test_awkward_text_comes_back(self, repository: Repository) -> None:
        odd = [
            evaluation(0, metrics={"naïve \x00 \ud800 '": 1.0}, worker="a'\"\n\\%s :x"),
            evaluation(1, metrics={}, error="\x00 \ud800 %(a)s ü\n" * 50),
        ]
        repository.append_evaluations("first", odd, "w", "d")
        assert repository.evaluations("first") == odd

    # --- evaluations

    def test_evaluations_are_known_across_studies(self, repository: Repository) -> None:
        with_study(repository, "second")
        repository.append_evaluations("first", batch(0, 1), "w", "d")
        repository.append_evaluations("second", batch(1, 2), "w", "d")
        repository.append_evaluations("second", batch(3), "other", "d")
        known = repository.known_evaluations("w", "d", [*digests(0, 1, 2, 3, 4), *digests(0)])
        assert known == dict(zip(digests(0, 1, 2), batch(0, 1, 2), strict=True))
        assert repository.known_evaluations("w", "other", digests(0)) == {}
        assert repository.known_evaluations("w", "d", []) == {}

    def test_thousands_of_digests_are_looked_up(self, repository: Repository) -> None:
        repository.append_evaluations("first", batch(*range(600)), "w", "d")
        unknown = [f"{i:016x}" for i in range(40_000)]
        assert set(repository.known_evaluations("w", "d", unknown + digests(*range(600)))) == set(digests(*range(600)))

    def test_what_a_study_was_told_never_changes(self, repository: Repository) -> None:
        with_study(repository, "second", "third")
        failed = evaluation(0, metrics={}, error="out of memory")
        slow = evaluation(0, metrics={"error": 0.5, "latency_ms@cpu": 3.0})
        told = {"first": failed, "second": evaluation(0), "third": slow}
        for name, one in told.items():
            repository.append_evaluations(name, [one], "w", "d")
        assert {name: repository.evaluations(name) for name in told} == {name: [one] for name, one in told.items()}
        known = repository.known_evaluations("w", "d", digests(0))[digests(0)[0]]
        assert known.metrics == {"error": 0.0, "params": 0.0, "latency_ms@cpu": 3.0}, "the first value of each metric"

    def test_a_failure_is_tried_again_by_another_study(self, repository: Repository) -> None:
        repository.append_evaluations("first", [evaluation(0, metrics={}, error="worker died")], "w", "d")
        assert repository.known_evaluations("w", "d", digests(0)) == {}

    def test_nothing_is_evaluated_twice_in_a_study(self, repository: Repository) -> None:
        repository.append_evaluations("first", batch(0, 1), "w", "d")
        with pytest.raises(
            NasError, match=f"study 'first' already holds architecture {digests(1)[0]}; .* once: drop it"
        ):
            repository.append_evaluations("first", batch(2, 1), "other weights", "d")
        with pytest.raises(NasError, match=f"architecture {digests(5)[0]} is twice in one batch for study 'first'"):
            repository.append_evaluations("first", batch(5, 6, 5), "w", "d")
        assert repository.evaluations("first") == batch(0, 1)
        assert repository.known_evaluations("other weights", "d", digests(2)) == {}, "a refused batch leaves nothing"
        repository.append_evaluations("first", batch(2), "other weights", "d")
        assert repository.evaluations("first") == batch(0, 1, 2)

    def test_an_empty_batch_is_nothing(self, repository: Repository) -> None:
        repository.append_evaluations("first", [], "w", "d")
        assert repository.evaluations("first") == []

    def test_evaluations_stand_in_order_of_position_whenever_they_come(self, repository: Repository) -> None:
        for position in (3, 0, 4, 1):
            repository.store_evaluations("first", {position: evaluation(position)}, "w", "d")
        assert repository.evaluations("first") == batch(0, 1, 3, 4)
        assert repository.placed_evaluations("first") == {i: evaluation(i) for i in (0, 1, 3, 4)}
        repository.append_evaluations("first", batch(9), "w", "d")
        repository.store_evaluations("first", {2: evaluation(2)}, "w", "d")
        assert repository.evaluations("first") == batch(0, 1, 2, 3, 4, 9)
        assert repository.num_evaluations() == {"first": 6}
        repository.store_evaluations("first", {8: evaluation(8), 6: evaluation(6), 7: evaluation(7)}, "w", "d")
        assert repository.placed_evaluations("first") == {
            i: evaluation(9 if i == 5 else i) for i in (0, 1, 2, 3, 4, 5, 6, 7, 8)
        }

    def test_evaluations_come_back_as_columns(self, repository: Repository) -> None:
        some = [
            *batch(0, 1),
            evaluation(2, metrics={}, error="out of memory"),
            evaluation(3, metrics={"latency_ms@cpu": 3.0, "error": 0.25}),
        ]
        repository.store_evaluations("first", dict(zip((0, 1, 2, 5), some, strict=True)), "w", "d")
        columns = repository.columns("first")
        assert columns.positions.tolist() == [0, 1, 2, 5] and len(columns) == 4
        assert list(columns.digests) == [one.arch.digest for one in some]
        assert list(columns.errors) == [one.error for one in some]
        assert columns.succeeded.tolist() == [True, True, False, True]
        assert columns.seconds.tolist() == [one.seconds for one in some]
        assert list(columns.workers) == [one.worker for one in some]
        assert list(columns.metrics) == ["error", "params", "latency_ms@cpu"]
        assert [columns.measured(row) for row in range(4)] == [one.metrics for one in some]
        assert [*columns.begins_with(some[3].arch.digest[:6])] == [3]
        assert repository.architectures([*digests(1), "absent"]) == {digests(1)[0]: some[1].arch}

    def test_a_study_without_evaluations_has_columns_of_none(self, repository: Repository) -> None:
        columns = repository.columns("first")
        assert len(columns) == 0 and columns.metrics == {} and columns.succeeded.tolist() == []

    def test_what_is_stored_again_is_there_once(self, repository: Repository) -> None:
        placed = {i: evaluation(i) for i in (0, 1, 3)}
        for _ in range(2):
            repository.store_evaluations("first", placed, "w", "d")
        assert repository.placed_evaluations("first") == placed

    def test_what_is_new_is_stored_beside_what_is_there(self, repository: Repository) -> None:
        repository.store_evaluations("first", {1: evaluation(1)}, "w", "d")
        placed = {i: evaluation(i) for i in (0, 1, 3)}
        repository.store_evaluations("first", placed, "w", "d")
        assert repository.placed_evaluations("first") == placed

    def test_a_position_is_taken_once(self, repository: Repository) -> None:
        repository.append_evaluations("first", batch(0, 1), "w", "d")
        for other in (evaluation(2), evaluation(1, seconds=9.0)):
            with pytest.raises(NasError, match=r"position 1 of study 'first' is taken, it holds 2 .* another driver"):
                repository.store_evaluations("first", {1: other, 2: evaluation(3)}, "w", "d")
        assert repository.evaluations("first") == batch(0, 1)

    def test_deleting_a_study_keeps_what_it_found(self, repository: Repository) -> None:
        repository.append_evaluations("first", batch(0), "w", "d")
        repository.delete_study("first")
        assert repository.studies() == []
        assert set(repository.known_evaluations("w", "d", digests(0))) == set(digests(0))
        repository.create_study(STUDY)
        assert repository.evaluations("first") == []

    def test_a_driver_notices_that_its_study_was_created_anew(self, url: str) -> None:
        with Repository(url) as one, Repository(url) as two:
            with_study(one)
            one.append_evaluations("first", batch(0), "w", "d")
            two.delete_study("first")
            two.create_study(STUDY)
            with pytest.raises(NasError, match="'first' was deleted and created again; read it again"):
                one.append_evaluations("first", batch(1), "w", "d")
            assert two.evaluations("first") == []

    def test_two_writers_take_turns(self, url: str) -> None:
        names, errors = ("one", "two"), []

        def write(name):
            try:
                with Repository(url) as repository:
                    for start in range(0, 60, 3):
                        repository.append_evaluations(name, batch(start, start + 1, start + 2), "w", "d")
            except NasError as error:
                errors.append(error)

        with Repository(url) as repository:
            with_study(repository, *names)
            threads = [threading.Thread(target=write, args=(name,)) for name in names]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert not errors
            assert [repository.evaluations(name) for name in names] == [batch(*range(60))] * 2

    def test_writers_of_the_same_architectures_each_keep_what_they_found(self, url: str) -> None:
        names, errors = [f"study {number}" for number in range(4)], []
        # in another order each, and different things of networks that are known already; some of them agree
        told = {
            name: [evaluation(i * step % 30, metrics={"error": value}) for i in range(30)]
            for name, step, value in zip(names, (1, 7, 11, 13), (0.25, 0.25, 0.5, 0.5), strict=True)
        }

        def write(name):
            try:
                with Repository(url) as repository:
                    for start in range(0, 30, 3):
                        repository.append_evaluations(name, told[name][start : start + 3], "w", "d")
            except NasError as error:
                errors.append(error)

        with Repository(url) as repository:
            with_study(repository, "first", *names).append_evaluations("first", batch(*range(30)), "w", "d")
            threads = [threading.Thread(target=write, args=(name,)) for name in names]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert not errors
            assert {name: repository.evaluations(name) for name in names} == told
            with repository._reading() as connection:
                count = connection.execute(sa.select(sa.func.count()).select_from(tables.evaluations)).scalar()
            assert count == 3 * 30, "what two found alike is stored once"

    def test_many_open_a_new_database_at_once(self, url: str) -> None:
        repositories, errors, barrier = [], [], threading.Barrier(6)

        def work():
            barrier.wait()
            try:
                repositories.append(Repository(url))
            except NasError as error:
                errors.append(error)

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors
        for repository in repositories:
            assert repository.studies() == []
            repository.close()

    @pytest.mark.skipif(os.name == "nt", reason="kills a process by signal")
    def test_what_was_committed_survives_a_killed_process(self, url: str) -> None:
        with Repository(url) as repository:
            with_study(repository)
        with subprocess.Popen([sys.executable, "-c", WRITER, url], stdout=subprocess.PIPE, text=True) as writer:
            said = 0
            while said < 50:
                said = int(writer.stdout.readline())
            writer.send_signal(signal.SIGKILL)
            said = max([said, *map(int, writer.stdout.read().split())])
        with Repository(url) as repository:
            found = repository.evaluations("first")
            assert len(found) >= said and len(found) % 5 == 0
            assert [e.arch.width for e in found] == list(range(len(found)))
            repository.append_evaluations("first", batch(999), "w", "d")

    def test_verified_figures_stand_beside_what_a_study_was_told(self, repository: Repository) -> None:
        repository.append_evaluations("first", batch(0, 1), "w", "d")
        with_study(repository, "second").append_evaluations("second", batch(2), "w", "d")
        (one, two, other) = digests(0, 1, 2)
        assert repository.verified("first") == {}
        repository.add_verified("first", {one: {"error": 0.5}, two: {"error": 0.25}})
        repository.add_verified("first", {two: {"error": 0.125, "latency_ms@cpu": 2.0}})
        repository.add_verified("first", {})
        found = {one: {"error": 0.5}, two: {"error": 0.125, "latency_ms@cpu": 2.0}}
        assert repository.verified("first") == found
        assert repository.evaluations("first") == batch(0, 1)
        with pytest.raises(NasError, match=f"architecture {other} is not in study 'first'; evaluate it first"):
            repository.add_verified("first", {one: {"error": 0.0}, other: {"error": 0.5}})
        assert repository.verified("first") == found
        repository.delete_study("first")
        assert repository.verified("second") == {}

    # --- measurements, curves, trust

    def test_measurements_by_target_and_digest(self, repository: Repository) -> None:
        pi = replace(CPU, name="pi5")
        for target in (CPU, pi):
            repository.add_target(target)
        cpu, pi5 = [measurement(0), measurement(1, peak_bytes=None, energy_mj=None)], [measurement(1, pi)]
        repository.add_measurements(cpu + pi5)
        repository.add_measurements([])
        assert repository.measurements("cpu") == sorted(cpu, key=lambda m: m.arch_digest)
        assert repository.measurements("pi5") == pi5
        assert repository.measurements("cpu", digests(1, 2)) == [cpu[1]]
        assert repository.measurements("cpu", []) == []
        assert repository.measurements("absent") == []

    def test_the_newest_measurement_stands(self, repository: Repository) -> None:
        repository.add_target(CPU)
        repository.add_measurements([measurement(0), measurement(0, median_ms=9.0)])
        assert [m.median_ms for m in repository.measurements("cpu")] == [9.0]
        repository.add_measurements([measurement(0, median_ms=8.0)])
        assert [m.median_ms for m in repository.measurements("cpu")] == [8.0]

    def test_other_machines_and_other_networks_are_kept_apart(self, repository: Repository) -> None:
        for target in (CPU, OTHER_CPU):
            repository.add_target(target)
        here, there, wider = measurement(0), measurement(0, OTHER_CPU), measurement(0, network="network-2")
        repository.add_measurements([here, there, wider])
        assert repository.measurements("cpu", version=CPU.version) == [here, wider]
        assert repository.measurements("cpu", digests(0), version=OTHER_CPU.version) == [there]
        assert len(repository.measurements("cpu")) == 3

    def test_measurements_are_counted(self, repository: Repository) -> None:
        for target in (CPU, OTHER_CPU):
            repository.add_target(target)
        later = measurement(1, created="t2")
        repository.add_measurements([measurement(0), later, measurement(2), measurement(0, OTHER_CPU)])
        counts = {("cpu", CPU.version): (3, "t2"), ("cpu", OTHER_CPU.version): (1, "t1")}
        assert repository.num_measurements() == counts

    def test_a_target_is_the_machine_that_it_is_now(self, repository: Repository) -> None:
        for target in (CPU, replace(CPU, name="another"), OTHER_CPU):
            repository.add_target(target)
        assert repository.target("cpu") == OTHER_CPU
        repository.add_target(CPU)
        assert repository.target("cpu") == CPU
        assert repository.targets() == [replace(CPU, name="another"), CPU]
        assert repository.target_versions() == [CPU, OTHER_CPU, replace(CPU, name="another")]

    def test_another_fingerprint_is_another_version(self) -> None:
        assert CPU.version == replace(CPU, name="x", settings={}).version != OTHER_CPU.version

    def test_predictors_come_back_the_newest_of_each_key(self, repository: Repository) -> None:
        pi = replace(CPU, name="pi5")
        for target in (CPU, OTHER_CPU, pi):
            repository.add_target(target)
        keys = [{"target": pi}, {"target": OTHER_CPU}, {"space_digest": "space-2"}, {"network": "network-2"}]
        several = [predictor(created=f"t{i}", **key) for i, key in enumerate(keys, start=2)]
        for found in [predictor(), *several]:
            repository.put_predictor(found)
        assert repository.predictors() == [predictor(), *several]
        better = predictor(kind="ensemble", warnings=(), created="t9")
        repository.put_predictor(better)
        assert repository.predictors() == [*several, better]
        assert repository.predictors("pi5") == several[:1]
        assert repository.predictors("absent") == []

    def test_a_curve_comes_back_in_order_of_steps(self, repository: Repository) -> None:
        points = [CurvePoint(s, w, "error", s / 10) for s in (0, 10) for w in ("largest", "random", "smallest")]
        repository.add_curve("w", points[::-1])
        repository.add_curve("w", [CurvePoint(10, "largest", "error", 0.25)])
        repository.add_curve("w", [])
        assert repository.curve("w") == [replace(p, value=0.25) if p == points[3] else p for p in points]
        assert repository.curve("absent") == []

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_a_diverged_curve_is_kept(self, repository: Repository, value: float) -> None:
        repository.add_curve("w", [CurvePoint(0, "train", "loss", value)])
        (point,) = repository.curve("w")
        assert point.value == value or (math.isnan(value) and math.isnan(point.value))

    def test_trust_is_replaced(self, repository: Repository) -> None:
        rows = ({"digest": "a", "inherited": 0.1, "standalone": None, "again": [0.2]},)
        gaps, baselines = ({"size": "small", "mean": -0.1},), ({"name": "MACs", "tau": 0.5},)
        trust = Trust(
            "Trusted.",
            "rough",
            "But.",
            tau=0.7,
            noise=0.01,
            k=3,
            gaps=gaps,
            baselines=baselines,
            rows=rows,
            seconds=12.5,
        )
        assert repository.trust("w") is None
        repository.put_trust("w", Trust("Not determined.", "unknown"))
        undefined = repository.trust("w")
        assert undefined == Trust("Not determined.", "unknown") and undefined.tau is None and undefined.rows == ()
        repository.put_trust("w", trust)
        assert repository.trust("w") == trust

    # --- distributions

    def test_distributions_come_back_in_order(self, repository: Repository) -> None:
        front = [learnt(f"cpu {share}") for share in (0.75, 0.25, 0.5)]
        repository.put_distributions("first", "k", front)
        assert repository.distributions("first") == front
        assert list(repository.distributions("first")[0].probabilities) == ["width", "kernel.0"], "as declared"
        assert repository.distributions("absent") == []

    def test_distributions_wait_for_their_study(self, repository: Repository) -> None:
        repository.put_distributions("later", "k", [learnt(study="")])
        assert repository.distributions("later") == [learnt(study="later")]

    def test_another_search_replaces_distributions(self, repository: Repository) -> None:
        repository.put_distributions("first", "k", [learnt("a"), learnt("b")])
        repository.put_distributions("first", "other", [learnt(method="darts")])
        assert repository.distributions("first") == [learnt(method="darts")]
        assert repository.known_distributions("k") == []

    def test_distributions_are_known_to_other_studies(self, repository: Repository) -> None:
        for name in ("first", "second"):
            repository.put_distributions(name, "k", [learnt("a"), learnt("b")])
        assert repository.known_distributions("k") == [learnt("a"), learnt("b")]
        assert repository.known_distributions("other") == []

    def test_deleting_a_study_takes_its_distributions_along(self, repository: Repository) -> None:
        with_study(repository, "second")
        for name in ("first", "second"):
            repository.put_distributions(name, "k", [learnt()])
        repository.delete_study("first")
        assert repository.distributions("first") == []
        assert repository.distributions("second") == [learnt(study="second")]

    def test_what_is_no_json_is_refused(self, repository: Repository) -> None:
        repository.put_distributions("first", "k", [learnt()])
        with pytest.raises(NasError, match="a distribution cannot be stored as JSON"):
            repository.put_distributions("first", "k", [learnt(settings={"lr": math.nan})])
        assert repository.distributions("first") == [learnt()]
