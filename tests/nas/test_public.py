"""The public face of `nas`: what type checkers see is what there is, and one call does what the command line does."""

import ast
import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

import nas
import search_spaces
from nas.errors import NasError
from nas.storage import Repository
from tests.nas.command import TINY, Nas, caller
from tests.nas.tiny_run import run

if TYPE_CHECKING:
    from typing import assert_type

    import numpy as np
    from torch import nn


@pytest.fixture
def nas_(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Nas:
    return caller(monkeypatch, capsys)


@pytest.mark.parametrize("package", [nas, search_spaces], ids=lambda package: package.__name__)
def test_type_checkers_see_every_public_name_where_it_is(package: ModuleType) -> None:
    tree = ast.parse(Path(str(package.__file__)).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    told = {alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert sorted(told) == sorted(package.__all__)
    for name, module in told.items():
        found = getattr(package, name)
        assert found is getattr(__import__(str(module), fromlist=[name]), name)
    assert set(package.__all__) <= set(dir(package))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        package.nothing  # noqa: B018


if TYPE_CHECKING:  # a user's code, which `make check` reads strictly: no public value is Any

    def as_a_user(run: nas.Run, space: search_spaces.Space) -> None:
        assert_type(nas.load("my_run.py"), nas.Run)
        found = nas.search(run, listener=nas.Listener(), placement=nas.Placement(workers=2))
        assert_type(found, nas.Found)
        assert_type(found.study, nas.StudyRecord)
        assert_type(found.best.arch, search_spaces.Architecture)
        assert_type(found.best.metrics["error"], float)
        assert_type(found.network(found.best), nn.Module)
        assert_type(found.export(found.best, "home").directory, Path)
        assert_type(found.trust, nas.Trust | None)
        assert_type(run.space, search_spaces.Space)
        assert_type(run.build(space.largest()), nn.Module)
        assert_type(space.sample(np.random.default_rng(0)), search_spaces.Architecture)
        with nas.Repository("sqlite://") as repository:
            assert_type(repository.studies(), list[nas.StudyRecord])
            assert_type(repository.evaluations("mine"), list[nas.Evaluation])


class Heard(nas.Listener):
    def __init__(self) -> None:
        self.stages: list[str] = []

    def planned(self, plan):  # type: ignore[no-untyped-def]
        self.stages.append("planned")

    def trained(self, workflow):  # type: ignore[no-untyped-def]
        self.stages.append("trained")

    def not_trained(self) -> None:
        self.stages.append("not trained")

    def progress(self, title):  # type: ignore[no-untyped-def]
        self.stages.append(title)
        return super().progress(title)


def test_one_call_searches_and_a_second_finds_it_done(
    tmp_path: Path, nas_: Nas, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    heard = Heard()
    found = nas.search(TINY, listener=heard)
    assert heard.stages == [
        "planned",
        "trained",
        "searching (surrogate)",
        "training alone, for the trust report",
        "verifying the front",
    ]
    assert found.study.status == "finished" and found.trust is not None and found.front
    assert found.best.metrics["error"] == min(row.metrics["error"] for row in found.front)

    network = found.network(found.best)
    inputs, labels = run.task.splits["test"]
    told = (network(inputs).argmax(1) != labels).double().mean()
    assert float(told) == pytest.approx(found.best.verified["test_error"])
    exported = found.export(found.best, tmp_path / "home", formats=["safetensors"])
    assert (exported.directory / "weights.safetensors").is_file()

    again = nas.search(str(TINY))
    assert again.front == found.front
    shown = json.loads(nas_("front", "tiny", "--json").out)
    assert [row["digest"] for row in shown] == [row.arch.digest for row in found.front]
    assert nas_("resume", "tiny").status == 0, "the command line knows its run file"


def test_a_run_of_python_has_its_database_and_folder_where_it_is_told(tmp_path: Path) -> None:
    untrained = replace(run, name="sizes", objectives=("params", "macs"), evaluations=6)
    storage, heard = f"sqlite:///{tmp_path / 'a.db'}", Heard()
    found = nas.search(untrained, storage=storage, directory=tmp_path / "here", listener=heard)
    assert heard.stages[0] == "not trained" and found.trust is None
    with Repository(storage, read_only=True) as repository:
        assert repository.study("sizes").run_file is None
    with pytest.raises(NasError, match="was searched without trained weights, so its networks have none"):
        found.network(found.best)
    assert not (tmp_path / "runs").exists()


def test_a_front_of_which_none_keeps_the_limits_has_no_best(tmp_path: Path) -> None:
    untrained = replace(run, objectives=("params", "macs"), limits=("params <= 4000",), evaluations=6)
    found = nas.search(untrained, storage=f"sqlite:///{tmp_path / 'a.db'}", directory=tmp_path)
    kept = [replace(row, broken=("params <= 4000",)) for row in found.front]
    assert found.best == found.front[0]
    with pytest.raises(NasError, match=r"no network of study 'tiny' keeps params <= 4000 \(.* as measured .*loosen"):
        replace(found, front=kept).best  # noqa: B018


def test_a_run_file_that_fails_is_named_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "wrong.py"
    file.write_text("x = 1\nraise ValueError('no data')\n")
    with pytest.raises(NasError, match=r"wrong\.py, line 2 raised ValueError: no data"):
        nas.search(file)
