"""SIGKILL of a search's driver at named points and at random moments, on each executor.

Nothing that was stored is lost or evaluated again, the front is that of the search never stopped, and no process is
left.
"""

import random
import signal
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from benchmarks.rows import lines
from nas.execution.cluster.watchdog import Family
from tests.faults.fault_search import EVALUATIONS, MARK, evaluated, front, require_no_orphan, started, stored
from tests.faults.many_kills import kill, went_wrong

POINTS = ["nas.evaluating:1", "nas.evaluated:1", "nas.evaluating:7", "nas.evaluated:8", "nas.evaluated:19"]
KILLS = {"here": 25, "process": 25, "ray": 4}


@pytest.fixture(scope="module")
def never_stopped(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("never_stopped")
    assert started(folder, "here", "none").wait() == 0, (folder / "log").read_text()
    assert len(set(evaluated(folder))) == len(evaluated(folder)) == EVALUATIONS
    return front(folder)


def killed(folder: Path, kind: str, *, at: str = "", after_s: float = 600.0) -> bool:
    """Runs the search until it is killed or finished, and says whether it was killed; checks what is left then."""
    before, begun, mark = stored(folder), len(evaluated(folder)), uuid.uuid4().hex
    family, until = Family(f"{MARK}={mark}"), time.monotonic() + after_s
    process = started(folder, kind, mark, **({"NAS_KILL_AT": at} if at else {}))
    try:
        while process.poll() is None and time.monotonic() < until:
            family.look()
            time.sleep(0.05)
    finally:
        process.kill()
        process.wait()
    assert process.returncode in (0, -signal.SIGKILL), (folder / "log").read_text()
    require_no_orphan(family)
    assert "Traceback" not in (folder / "log").read_text(), "who loses the driver ends quietly"
    after = stored(folder)
    kept = {digest: (metrics, error, seconds) for digest, metrics, error, seconds in after}
    assert all(kept.get(digest) == tuple(rest) for digest, *rest in before), "an evaluation is lost or another"
    again = {digest for digest, *_ in before} & set(evaluated(folder)[begun:])
    assert not again, "what is stored is not evaluated again"
    return process.returncode != 0


@pytest.mark.parametrize("kind", ["here", "process"])
def test_killed_at_a_named_point_a_search_goes_on(kind: str, never_stopped: Any, tmp_path: Path) -> None:
    assert killed(tmp_path, kind, at="nas.evaluated:11")
    assert not killed(tmp_path, kind)
    assert front(tmp_path) == never_stopped


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("kind", KILLS)
def test_killed_at_any_named_point_a_search_goes_on(point: str, kind: str, never_stopped: Any, tmp_path: Path) -> None:
    if kind == "ray":
        pytest.importorskip("ray", reason="ray is an extra")
    assert killed(tmp_path, kind, at=point)
    assert not killed(tmp_path, kind)
    assert front(tmp_path) == never_stopped


@pytest.mark.slow
@pytest.mark.parametrize("kind", KILLS)
def test_killed_at_random_moments_a_search_goes_on(kind: str, never_stopped: Any, tmp_path: Path) -> None:
    """Moments are drawn anew each time, so that they never stop being different ones; a failure tells the seed."""
    if kind == "ray":
        pytest.importorskip("ray", reason="ray is an extra")
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    moments, kills, studies = random.Random(seed), 0, 0
    while kills < KILLS[kind]:
        folder = tmp_path / str(studies)
        folder.mkdir()
        studies += 1
        longest = 60.0 if kind == "ray" else 3.0
        while killed(folder, kind, after_s=moments.uniform(0.3, longest)):
            kills += 1
            if kills % 6 == 0:  # else one that dies too soon each time would never finish
                longest *= 1.5
        assert front(folder) == never_stopped


@pytest.mark.slow
def test_whole_searches_killed_in_any_phase_go_on(tmp_path: Path) -> None:
    """A few of the kills that `python -m tests.faults.many_kills` makes hundreds of."""
    kill(8, tmp_path / "rows.jsonl", ["whole"], tmp_path)
    rows = lines(tmp_path / "rows.jsonl")
    assert sum(row["killed"] for row in rows) >= 8 and rows[-1]["identical"] is True
    assert not [row for row in rows if went_wrong(row)]
