"""Killed at any moment and called again, a search ends as one never stopped: nothing lost, nothing computed twice.

The command runs in a process of its own, which is sent SIGKILL when the database or a folder shows that the moment has
come; the same command then goes on in this process. What is compared does not depend on how fast the machine is.
"""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from nas.records import Evaluation
from nas.storage import Repository
from supernets import checkpoints
from tests.nas.command import Nas, caller
from tests.nas.tiny_slowed import found, slowed

ROOT = Path(__file__).parents[2]
DEADLINE_S = 180

Moment = Callable[[Path], bool]


@pytest.fixture(scope="module")
def never_stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from nas.stages.predicting import latencies
    from nas.stages.studying import open_study
    from nas.stages.trust import TrustStage
    from nas.stages.verifying import verify
    from nas.stages.workflow import Workflow
    from tests.nas.tiny_run import run

    folder = tmp_path_factory.mktemp("never_stopped")
    with Workflow(run, stored(folder), folder / "runs" / run.name, progress=False) as workflow:
        study = open_study(workflow, latencies(workflow))
        study.run(run.evaluations)
        verify(workflow, study.name)
        TrustStage(workflow).run()
    return folder


@pytest.fixture
def nas_(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Nas:
    return caller(monkeypatch, capsys)


def stored(folder: Path, *, read_only: bool = False) -> Repository:
    return Repository(f"sqlite:///{folder / 'nas.db'}", read_only=read_only)


def count(folder: Path, query: str) -> Any:
    """One number from the database, 0 before there is one."""
    try:
        connection = sqlite3.connect(f"file:{folder / 'nas.db'}?mode=ro", uri=True)
    except sqlite3.OperationalError:
        return 0
    try:
        return connection.execute(query).fetchone()[0]
    except sqlite3.OperationalError:  # the file is there, its tables are not yet
        return 0
    finally:
        connection.close()


def evaluated(folder: Path) -> int:
    return int(count(folder, "SELECT count(*) FROM study_evaluations"))


def trained(step: int) -> Moment:
    return lambda folder: (folder / "runs" / "tiny" / "supernet" / f"step-{step:09d}.json").exists()


def searched(number: int) -> Moment:
    return lambda folder: evaluated(folder) >= number


def verified(number: int) -> Moment:
    return lambda folder: count(folder, "SELECT count(*) FROM verified") >= number


def asked_for_trust(folder: Path) -> bool:
    return bool(count(folder, "SELECT count(*) FROM trust"))


def trained_again(folder: Path) -> bool:
    """Whether one of the networks of the trust report has been trained a second time."""
    return bool(count(folder, """SELECT count(*) FROM trust WHERE report LIKE '%"again": [_.%'"""))


def killed(folder: Path, command: Sequence[str], moment: Moment) -> None:
    """Runs the command in `folder` until the moment has come, and kills it then."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "nas", *command], cwd=folder, env=environment, stdout=log, stderr=log
        )
        try:
            begin = time.monotonic()
            while not moment(folder):
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() - begin < DEADLINE_S, (folder / "log").read_text()
                time.sleep(0.002)
        finally:
            process.kill()
            status = process.wait()
    assert status == -signal.SIGKILL, "it was over before it could be killed"


@pytest.mark.slow  # in this process: test_study, where an evaluator ends it anywhere
def test_a_search_killed_within_a_batch_goes_on(
    never_stopped: Path, tmp_path: Path, nas_: Nas, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(searched(14), never_stopped, tmp_path, nas_, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize(
    "moment",
    [trained(10), trained(30), trained(40), searched(3), searched(27), verified(2), asked_for_trust, trained_again],
    ids=["step 10", "step 30", "step 40", "batch 1", "batch 5", "verifying", "trust", "trust again"],
)
def test_a_search_killed_at_any_moment_goes_on(
    moment: Moment, never_stopped: Path, tmp_path: Path, nas_: Nas, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(moment, never_stopped, tmp_path, nas_, monkeypatch)


@pytest.mark.slow
def test_a_search_killed_again_and_again_goes_on(
    never_stopped: Path, tmp_path: Path, nas_: Nas, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = slowed(tmp_path)
    for moment in (trained(20), searched(4), searched(5), searched(18)):
        killed(tmp_path, ["search", str(path)], moment)
    check(verified(1), never_stopped, tmp_path, nas_, monkeypatch)


def check(moment: Moment, never_stopped: Path, folder: Path, nas_: Nas, monkeypatch: pytest.MonkeyPatch) -> None:
    path = slowed(folder)
    killed(folder, ["search", str(path)], moment)
    step = checkpoints.newest(folder / "runs" / "tiny" / "supernet").step
    before = evaluations(folder)

    monkeypatch.chdir(folder)
    status, out, _ = nas_("search", path)
    assert status == 0
    assert told_step(out) == step, "only what came after the last checkpoint is trained again"
    after = evaluations(folder)
    assert [one for one in after if one in before] == before, "with the seconds they took the first time"
    assert count(folder, "SELECT count(*) FROM evaluations") == evaluated(folder) == 30
    assert count(folder, "SELECT max(attempt) FROM evaluations") == 0, "no network was evaluated twice"
    assert ended(folder) == ended(never_stopped)


def told_step(out: str) -> int:
    """The step at which training went on, as the command tells."""
    if "found trained" in out:
        return 40
    told = re.search(r"went on from step (\d+) to 40", out)
    return int(told[1]) if told else 0


def evaluations(folder: Path) -> list[Evaluation]:
    if not evaluated(folder):
        return []
    with stored(folder, read_only=True) as repository:
        return repository.evaluations("tiny")


def ended(folder: Path) -> dict[str, Any]:
    with stored(folder, read_only=True) as repository:
        return found(repository)


@pytest.mark.slow
def test_a_search_for_latency_killed_at_it_ends_as_one_never_stopped_with_the_same_measurements(
    tmp_path: Path, nas_: Nas, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No two measurements of a latency agree, so the search that is not stopped is given those of the killed one."""
    path = slowed(tmp_path, "objectives=('error', 'latency_ms@cpu'), trust=0")
    killed(tmp_path, ["search", str(path)], searched(12))
    monkeypatch.chdir(tmp_path)
    before = measurements(tmp_path)
    assert nas_("search", path).status == 0
    assert measurements(tmp_path)[: len(before)] != [] and set(before) <= set(measurements(tmp_path))

    other = tmp_path / "never_stopped"
    other.mkdir()
    with stored(tmp_path) as here, stored(other) as there:
        for target in here.targets():
            there.add_target(target)
        there.add_measurements(here.measurements("cpu"))
    monkeypatch.chdir(other)
    assert nas_("search", path).status == 0
    assert measurements(other) == measurements(tmp_path), "nothing needed to be measured"
    fronts = [
        json.loads(nas_("front", "tiny", "--json", "--storage", f"sqlite:///{f}/nas.db").out) for f in (tmp_path, other)
    ]
    assert fronts[0] == fronts[1] and fronts[0]


def measurements(folder: Path) -> list[tuple[str, float]]:
    with stored(folder, read_only=True) as repository:
        return [(m.arch_digest, m.median_ms) for m in repository.measurements("cpu")]


@pytest.mark.slow
@pytest.mark.parametrize("moment", [0.0, 0.4, 1.5])
def test_an_export_killed_at_it_leaves_nothing_half_written(
    moment: float, tmp_path: Path, nas_: Nas, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = slowed(tmp_path, "trust=0")
    monkeypatch.chdir(tmp_path)
    assert nas_("search", path).status == 0
    places = tmp_path / "networks"
    places.mkdir()

    def writing(folder: Path) -> bool:
        if not any(places.iterdir()):
            return False
        time.sleep(moment)
        return True

    killed(tmp_path, ["export", "tiny", "--to", str(places / "best")], writing)
    assert not (places / "best").exists(), "it appears whole or not at all"
    assert nas_("export", "tiny", "--to", places / "best").status == 0
    assert [place.name for place in places.iterdir()] == ["best"], "what the killed one left is tidied up"
    record = json.loads((places / "best" / "architecture.json").read_text())
    assert {path.name for path in (places / "best").iterdir()} >= {"load.py", "weights.safetensors"}
    assert record["metadata"]["study"] == "tiny"
