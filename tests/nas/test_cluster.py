"""Evaluations on a real Ray cluster of this machine: the same study as in process, and workers that die."""

import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from nas.errors import NasError
from nas.execution.executors import Deferred, Evaluate, Executor
from nas.records import Evaluation
from nas.storage import Repository
from nas.study import Study
from search_spaces import Architecture
from tests.contracts.executor import ExecutorContract, Pair, some

pytest.importorskip("ray", reason="ray is an extra")

from nas.execution.cluster import RayExecutor
from nas.execution.cluster.watchdog import Family, marked
from tests.nas.command import caller

# Ray's client leaves sockets and files for the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning:ray")


def costly(arch: Architecture) -> dict[str, float]:
    """Uneven times, so that workers overtake one another."""
    time.sleep(0.02 * (arch.a % 3))
    if arch.a == arch.b:
        raise ValueError("equal")
    return {"error": (arch.a - 5) ** 2 / (1 + arch.b), "cost": float(arch.b)}


SCRIPT = """
import sys
from functools import partial
from nas.execution.cluster import RayExecutor
from tests.contracts.executor import some
from tests.nas.test_processes import waiting

list(RayExecutor("local", 2).run(partial(waiting, sys.argv[1]), some(4)))
"""


def sleepy(arch: Architecture) -> dict[str, float]:
    time.sleep(600 if arch.a % 4 == 1 else 0)
    return {"error": float(arch.a)}


def held() -> Evaluate:
    """An evaluator that only its worker can have: its process id, and how many threads it may use."""
    return lambda arch: {"pid": os.getpid(), "threads": float(os.environ["OMP_NUM_THREADS"])}


def deadly(marks: Path, times: int, arch: Architecture) -> dict[str, float]:
    """Ends the process of its worker the first `times` times that it sees an architecture with a = b."""
    if arch.a == arch.b:
        seen = marks / arch.digest
        deaths = len(seen.read_text()) if seen.exists() else 0
        if deaths < times:
            seen.write_text("x" * (deaths + 1))
            os._exit(1)
    return {"error": float(arch.a), "pid": float(os.getpid())}


def fronts(repository: Repository, name: str, executor: Executor | None) -> tuple[list[Evaluation], list[Evaluation]]:
    study = Study(name, Pair(), costly, ("error", "cost"), repository, executor=executor, seed=3)
    front = study.run(40)
    return front, study.evaluations


@pytest.fixture(scope="module")
def ray_executor() -> Iterator[RayExecutor]:
    with RayExecutor("local", num_workers=2) as executor:
        yield executor
    import ray

    assert not ray.is_initialized()


def test_a_study_on_two_workers_equals_one_in_process(ray_executor: RayExecutor) -> None:
    with Repository("sqlite://") as repository:
        here, all_here = fronts(repository, "here", None)
        there, all_there = fronts(repository, "there", ray_executor)
    plain = [[(e.arch, e.metrics, e.error) for e in found] for found in (here, there, all_here, all_there)]
    assert plain[0] == plain[1]
    assert plain[2] == plain[3]
    assert {e.worker for e in all_there} == {"ray-0", "ray-1"}


def test_each_worker_is_a_process_of_one_thread_that_builds_the_evaluator_once(ray_executor: RayExecutor) -> None:
    evaluate = Deferred(held)
    found = [e for _ in range(2) for e in ray_executor.run(evaluate, some(16))]
    processes = {e.metrics["pid"] for e in found}
    assert len(processes) == 2
    assert os.getpid() not in processes
    assert {e.metrics["threads"] for e in found} == {1.0}


@pytest.mark.slow
class TestRayExecutor(ExecutorContract):
    @pytest.fixture
    def executor(self, ray_executor: RayExecutor) -> Executor:
        return ray_executor


@pytest.mark.slow
@pytest.mark.parametrize("times", [1, 9])
def test_a_worker_that_dies_is_replaced_and_its_work_tried_once_more(
    times: int, ray_executor: RayExecutor, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    archs = some(24)
    deaths = {arch for arch in archs if arch.a == arch.b}
    assert deaths
    found = list(ray_executor.run(partial(deadly, tmp_path, times), archs))
    assert [e.arch for e in found] == archs
    assert "".join(capfd.readouterr()) == "", "Ray is quiet"
    for evaluation in found:
        if times == 9 and evaluation.arch in deaths:
            assert evaluation.error is not None
            assert evaluation.error.startswith("WorkerDied: its process died twice, the second time with nothing")
        else:
            assert evaluation.metrics["error"] == evaluation.arch.a


@pytest.mark.slow
def test_what_takes_too_long_is_killed_and_said_to_have_failed(ray_executor: RayExecutor) -> None:
    archs = some(12)
    slow = {arch for arch in archs if arch.a % 4 == 1}
    assert slow
    ray_executor.close()
    with RayExecutor("local", num_workers=2, timeout_s=2.0, start_timeout_s=60) as executor:
        found = list(executor.run(sleepy, archs))
    assert [e.arch for e in found] == archs
    assert {e.arch for e in found if e.error} == slow
    assert {e.error for e in found if e.error} == {"TimedOut: no result within 2 s; its process was killed"}


@pytest.mark.slow
def test_more_workers_than_the_cluster_has_is_an_error(ray_executor: RayExecutor) -> None:
    ray_executor.close()
    with (
        RayExecutor("local", num_workers=2) as small,
        RayExecutor("auto", num_workers=5, start_timeout_s=20) as wide,
    ):
        assert len(list(small.run(costly, some(2)))) == 2
        with pytest.raises(
            NasError, match=r"5 workers were not ready within 20 s with 1 CPU and 0 GPU each on a cluster of 2 CPUs"
        ):
            list(wide.run(costly, some(2)))
        assert len(list(small.run(costly, some(3)))) == 3


@pytest.mark.slow
def test_joins_a_running_cluster_survives_the_loss_of_a_node_and_leaves_the_rest_running(
    ray_executor: RayExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("initial_delay_ms", 2000), ("period_ms", 1000), ("failure_threshold", 5)):
        monkeypatch.setenv(f"RAY_health_check_{name}", str(value))
    import ray
    from ray.cluster_utils import Cluster

    ray_executor.close()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    node = cluster.add_node(num_cpus=2)
    try:
        archs = some(40)
        with RayExecutor(cluster.address, num_workers=3) as executor:
            found = []
            for evaluation in executor.run(costly, archs):
                found.append(evaluation)
                if len(found) == 5:
                    cluster.remove_node(node)
        assert [e.arch for e in found] == archs
        assert all(e.error is None or e.error.startswith("ValueError") for e in found)
        assert len(ray.nodes()) == 2
    finally:
        ray.shutdown()
        cluster.shutdown()


def test_the_status_tells_nodes_resources_and_our_workers(
    ray_executor: RayExecutor, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(list(ray_executor.run(costly, some(4)))) == 4
    out = caller(monkeypatch, capsys)("cluster", "status").out
    assert "1 nodes; free are 0 of 2 CPU" in out
    assert f"workers of the search on {socket.gethostname()}, process {os.getpid()}: ray-0, ray-1" in out


@pytest.mark.slow
def test_a_local_cluster_ends_with_a_driver_that_is_killed(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    driver = subprocess.Popen([sys.executable, "-c", SCRIPT, str(tmp_path)], env=environment)
    while len(list(tmp_path.iterdir())) < 2:
        assert driver.poll() is None
        time.sleep(0.05)
    (mark,) = {
        entry
        for worker in tmp_path.iterdir()
        for entry in Path(f"/proc/{worker.name}/environ").read_text().split("\0")
        if entry.startswith("NAS_LOCAL_CLUSTER=")
    }
    family = Family(mark)
    assert len(family.look()) > 5
    driver.kill()
    driver.wait()
    begin = time.monotonic()
    while family.look():
        assert time.monotonic() - begin < 30, "Ray's agents alone stay for a minute"
        time.sleep(0.05)


@pytest.mark.parametrize("address", ["127.0.0.1:9", pytest.param("ray://127.0.0.1:9", marks=pytest.mark.slow)])
def test_an_address_where_no_cluster_answers_is_an_error(address: str, ray_executor: RayExecutor) -> None:
    ray_executor.close()
    with pytest.raises(NasError, match=r"no Ray cluster answers at '.*127\.0\.0\.1:9'"):
        list(RayExecutor(address).run(costly, some(2)))


def test_a_missing_ray_is_an_error_that_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(NasError, match=r"pip install nas\[ray\]"):
        list(RayExecutor().run(costly, some(2)))


def test_the_number_of_workers_is_checked() -> None:
    with pytest.raises(NasError, match="num_workers is 0"):
        RayExecutor(num_workers=0)


def test_a_process_that_hides_its_mark_is_known_still() -> None:
    """As Ray's agents do, whose titles are written over what they were started with."""
    hidden = "print(1, flush=True); input()"
    code = f"import os, sys; input(); os.execve(sys.executable, [sys.executable, '-c', {hidden!r}], {{}})"
    mark = uuid.uuid4().hex
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", code],
        env={**os.environ, "NAS_TEST_HIDES": mark},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    with process:
        family = Family(f"NAS_TEST_HIDES={mark}")
        while family.look() != [process.pid]:
            assert process.poll() is None
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "1\n"
        assert not marked(f"NAS_TEST_HIDES={mark}") and family.look() == [process.pid]
        process.kill()
        process.wait()
        assert family.look() == []
