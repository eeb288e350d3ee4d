"""A Ray cluster that loses nodes and gains one in the middle of a search: the study of one that nothing happened to."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from nas.execution.executors import Executor, InProcess
from nas.storage import Repository
from nas.study import Study
from search_spaces import Architecture
from tests.contracts.executor import Pair
from tests.faults.fault_search import EVALUATIONS, metrics

pytest.importorskip("ray", reason="ray is an extra")

from nas.execution.cluster import RayExecutor
from nas.execution.cluster.connection import import_ray

# Ray's client leaves sockets and files for the garbage collector.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning:ray")]

DEADLINE_S = 180.0
EVENTS = {5: "lost", 12: "lost", 21: "joined"}  # by how many evaluations have begun: in the middle of batches of 8


def on_a_node(folder: Path, arch: Architecture) -> dict[str, float]:
    """Tells which node evaluates what; where an event is due, evaluations wait for it, and it meets them at work."""
    import ray

    with (folder / "nodes").open("a") as file:
        file.write(f"{ray.get_runtime_context().get_node_id()} {arch.digest}\n")
    wait_until(lambda: not is_due(folder))
    return metrics(folder, arch)


def is_due(folder: Path) -> bool:
    """Whether an event has not happened yet; a node has joined once it was given an evaluation."""
    done, evaluations = happened(folder), begun(folder)
    if len(done) == len(EVENTS):
        return done[-1] not in dict(evaluations)
    return len(evaluations) >= list(EVENTS)[len(done)]


def happened(folder: Path) -> list[str]:
    """The nodes that were lost or joined, in order."""
    return (folder / "events").read_text().split() if (folder / "events").exists() else []


def wait_until(condition: Callable[[], bool]) -> None:
    begin = time.monotonic()
    while not condition():
        assert time.monotonic() - begin < DEADLINE_S
        time.sleep(0.05)


def begun(folder: Path) -> list[tuple[str, str]]:
    """Nodes and digests, in the order in which evaluations began."""
    lines = (folder / "nodes").read_text().splitlines() if (folder / "nodes").exists() else []
    return [(node, digest) for node, _, digest in (line.partition(" ") for line in lines)]


def searched(name: str, folder: Path, evaluate: Any, executor: Executor, repository: Repository) -> Any:
    objectives = ("error", "cost")
    study = Study(name, Pair(), partial(evaluate, folder), objectives, repository, executor=executor, seed=3, batch=8)
    front = study.run(EVALUATIONS)
    return [[(e.arch.digest, e.metrics, e.error) for e in found] for found in (front, study.evaluations)]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Three nodes of one processor each, on loopback; whether they live is seen within seconds."""
    for name, value in (("initial_delay_ms", 2000), ("period_ms", 1000), ("failure_threshold", 5)):
        monkeypatch.setenv(f"RAY_health_check_{name}", str(value))
    ray = import_ray()
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1)
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


def test_a_search_that_loses_two_nodes_and_gains_one_finds_what_it_finds_in_process(
    cluster: Any, tmp_path: Path
) -> None:
    with Repository(f"sqlite:///{tmp_path / 'nas.db'}") as repository:
        with RayExecutor(cluster.address, num_workers=3) as executor, ThreadPoolExecutor(1) as thread:
            search = thread.submit(searched, "there", tmp_path, on_a_node, executor, repository)
            for number, event in EVENTS.items():  # in this thread, for Ray's nodes handle signals
                wait_until(lambda number=number: len(begun(tmp_path)) >= number or search.done())
                node = next(iter(cluster.worker_nodes)) if event == "lost" else cluster.add_node(num_cpus=1)
                if event == "lost":
                    cluster.remove_node(node, allow_graceful=False)
                with (tmp_path / "events").open("a") as file:
                    file.write(f"{node.node_id}\n")
            there = search.result(DEADLINE_S)
        evaluations = begun(tmp_path)
        assert there == searched("here", tmp_path, metrics, InProcess(), repository)
        assert repository.study("there").status == "finished"

    *lost, joined = happened(tmp_path)
    nodes = {node for node, _ in evaluations}
    assert len(nodes) == 4 and nodes >= {joined, *lost}, "each node evaluated something"
    again = [digest for digest, times in Counter(digest for _, digest in evaluations).items() if times > 1]
    assert len(again) == 2 and len(evaluations) == EVALUATIONS + 2, "only what a lost node was at is evaluated again"
    assert all({node for node, one in evaluations if one == digest} & set(lost) for digest in again)
