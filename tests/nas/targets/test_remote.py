"""A machine of a Ray cluster, here this one under another name; networks of a run file's classes travel to it."""

import os
import sys
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
import torch

from nas.errors import NasError
from nas.targets import CPUTarget, RemoteTarget, Target, TargetError
from tests.contracts.target import TargetContract

pytest.importorskip("ray", reason="ray is an extra")

pytestmark = [
    pytest.mark.slow,  # the first measurement on a Ray worker takes up to a minute
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning:ray"),
]

QUICK: dict[str, Any] = {"budget_s": 0.02, "max_repeats": 20, "timeout_s": 900.0}
NEIGHBOUR = "SCALE = 2.0\ndef scaled(x):\n    return SCALE * x\n"
RUN_FILE = """
import os
from torch import nn
import its_neighbour_of_a_run

class Mine(nn.Linear):
    def forward(self, x):
        assert its_neighbour_of_a_run.scaled(1.0) == 2.0
        if os.getpid() == int(os.environ.get("THE_DRIVER", 0)):
            raise RuntimeError("run here, not there")
        return super().forward(x)
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    from nas.execution.cluster.connection import import_ray

    ray = import_ray()
    ray.init(
        address="local",
        num_cpus=1,
        resources={"board": 1},
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        object_store_memory=100 * 2**20,
    )
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def board(cluster: None) -> RemoteTarget:
    return RemoteTarget("board", **QUICK)


class TestRemoteTarget(TargetContract):
    @pytest.fixture
    def target(self, board: RemoteTarget) -> Target:
        return board

    def test_its_record_makes_it_again(self, target: Target) -> None:
        pytest.skip("the machine is taken by the target itself")


def test_its_fingerprint_is_that_of_the_worker(board: RemoteTarget) -> None:
    here = CPUTarget().describe()
    there = board.describe()
    assert there["on"] == "cpu" and {key: there[key] for key in here} == here


def test_classes_of_a_run_file_and_its_neighbours_travel(
    board: RemoteTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "its_neighbour_of_a_run.py").write_text(NEIGHBOUR)
    path = tmp_path / "a_run_file.py"
    path.write_text(RUN_FILE)
    spec = spec_from_file_location("nas_run_a_run_file", path)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "nas_run_a_run_file", module)
    monkeypatch.syspath_prepend(str(tmp_path))
    spec.loader.exec_module(module)
    monkeypatch.setenv("THE_DRIVER", str(os.getpid()))
    try:
        assert board.measure([module.Mine(3, 2)], torch.zeros(1, 3))[0].median_ms > 0
    finally:
        sys.modules.pop("its_neighbour_of_a_run", None)


def test_a_machine_that_became_another_one_is_noticed(board: RemoteTarget, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(board.__dict__, "_description", {**board.describe(), "torch": "1.0"})
    with pytest.raises(TargetError, match=r"the machine behind 'board' has changed meanwhile \(torch\): measure again"):
        board.measure([torch.nn.Linear(1, 1)], torch.zeros(1, 1))


def test_a_cluster_without_the_machine_says_what_to_type(cluster: None) -> None:
    command = r"""ray start --address=[\d.]+:\d+ --resources='\{"pi5": 1\}'"""
    with pytest.raises(NasError, match=f"no machine of the Ray cluster at .* carries 'pi5': run on it {command}"):
        RemoteTarget("pi5").describe()


def test_a_machine_that_is_taken_is_waited_for_so_long(board: RemoteTarget) -> None:
    board.describe()
    with pytest.raises(NasError, match="'board' did not answer within 1 s: it is taken by another search, or too slow"):
        RemoteTarget("board", timeout_s=1.0).describe()
