"""The same command in process, on two processes and on two workers of a Ray cluster: the same study, to the digit."""

from pathlib import Path
from typing import Any

import pytest

from nas.results import front
from nas.storage import Repository
from tests.nas.command import TINY, Nas, caller

# Ray's client leaves sockets and files for the garbage collector.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning:ray")]

WORKERS = {
    "process": ["--workers", "2"],
    "ray": ["--cluster", "local", "--workers", "2"],
}


@pytest.fixture
def nas_(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Nas:
    return caller(monkeypatch, capsys)


def found(folder: Path) -> dict[str, Any]:
    with Repository(f"sqlite:///{folder / 'nas.db'}", read_only=True) as stored:
        evaluations = stored.evaluations("tiny")
        return {
            "evaluations": [(e.arch, e.metrics, e.error) for e in evaluations],
            "front": [(row.arch, row.metrics, row.verified) for row in front.front(stored, "tiny")],
            "workers": {e.worker for e in evaluations},
            "weights": stored.study("tiny").supernet_digest,
        }


@pytest.mark.parametrize("kind", WORKERS)
def test_two_workers_find_the_front_that_one_process_finds(
    kind: str, tmp_path: Path, nas_: Nas, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "ray":
        pytest.importorskip("ray", reason="ray is an extra")
    answers = {}
    for name, options in (("here", []), ("workers", WORKERS[kind])):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        answers[name] = nas_("search", TINY, *options)
        assert answers[name].status == 0, answers[name].err
        assert "ray" not in answers[name].err.lower(), "Ray is quiet"
    here, workers = found(tmp_path / "here"), found(tmp_path / "workers")
    assert here.pop("workers") == {"local"}
    assert workers.pop("workers") == {f"{kind}-0", f"{kind}-1"}
    assert here == workers
    assert len(here["evaluations"]) == 30
    texts = [answer.out[answer.out.index("front of tiny") :] for answer in answers.values()]
    assert texts[0].split("trust report")[0] == texts[1].split("trust report")[0]
    if kind == "ray":
        import ray

        assert not ray.is_initialized(), "the cluster that was started for the search is gone with it"


def test_a_search_may_change_from_one_process_to_workers(
    tmp_path: Path, nas_: Nas, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nas.stages import evaluators

    evaluate, calls = evaluators.SubnetEvaluator.__call__, 0

    def interrupted(self: evaluators.SubnetEvaluator, arch: Any) -> dict[str, float]:
        nonlocal calls
        calls += 1
        if calls > 12:
            raise KeyboardInterrupt
        return evaluate(self, arch)

    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(evaluators.SubnetEvaluator, "__call__", interrupted)
        assert nas_("search", TINY).status == 130
    assert nas_("resume", "tiny", "--workers", "2").status == 0
    mixed = found(tmp_path)
    (tmp_path / "whole").mkdir()
    monkeypatch.chdir(tmp_path / "whole")
    assert nas_("search", TINY).status == 0
    whole = found(tmp_path / "whole")
    assert mixed.pop("workers") == {"local", "process-0", "process-1"} and whole.pop("workers") == {"local"}
    assert mixed == whole
