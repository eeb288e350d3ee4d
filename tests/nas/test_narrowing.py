"""What a training closes, the search leaves out: from the command line to the database, and after a stop."""

import re
from pathlib import Path

import pytest

from nas.run import RunError
from nas.run_file import load
from nas.storage import Repository
from tests.nas.command import Nas, caller, variant

STRATEGY = "narrowing(choices=width+ratio, keep=1, start=0.3, stop=0.8, least=2, probes=1)"


@pytest.fixture
def nas_(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Nas:
    for name in ("NAS_STORAGE", "NAS_RUNS", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return caller(monkeypatch, capsys)


def narrowing(folder: Path, more: str = "") -> Path:
    training = f"training=replace(tiny.run.training, strategy={STRATEGY!r}, evaluate_every=0)"
    return variant(folder, f"{training}, evaluations=8, batch=4, trust=0{more}")


def test_the_search_goes_on_in_what_the_training_left(nas_: Nas, tmp_path: Path) -> None:
    path = narrowing(tmp_path)
    status, out, err = nas_("search", path)
    assert status == 0, err
    told = re.search(r"^(\d+) options were closed on the way, and the search leaves them out:$", out, re.MULTILINE)
    assert told is not None
    with Repository(f"sqlite:///{tmp_path / 'nas.db'}", read_only=True) as repository:
        study, (supernet,) = repository.study("tiny"), repository.supernets()
        evaluations = repository.evaluations("tiny")
    closed = study.settings["closed"]
    assert closed == supernet.settings["closed"] and len(closed) == int(told[1]) >= 3
    assert all(row["why"].startswith("step ") for row in closed)
    gone = {row["option"] for row in closed if row["path"] == "width"}
    assert len(gone) == 3 and len(evaluations) == 8
    assert not any(one.arch.width in gone for one in evaluations)
    out = nas_("resume", "tiny").out
    assert "supernet: found trained, 40 steps of 'narrowing(" in out and told[0] in out
    with Repository(f"sqlite:///{tmp_path / 'nas.db'}", read_only=True) as repository:
        assert repository.study("tiny").settings["closed"] == closed


def test_what_a_run_closes_itself_comes_first(nas_: Nas, tmp_path: Path) -> None:
    path = variant(
        tmp_path,
        f"training=replace(tiny.run.training, strategy={STRATEGY!r}, evaluate_every=0), evaluations=4, batch=4, "
        "trust=0, closed=(Closed('norm', 'none', 'by hand'),)",
        before="from search_spaces.narrowing import Closed",
    )
    assert nas_("search", path).status == 0
    with Repository(f"sqlite:///{tmp_path / 'nas.db'}", read_only=True) as repository:
        first, *others = repository.study("tiny").settings["closed"]
        assert first == {"path": "norm", "option": "none", "why": "by hand"} and others
        assert all(one.arch.norm == "batch" for one in repository.evaluations("tiny"))


def test_gradients_and_a_narrowing_training_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(
        RunError, match=r"gradient = 'drnas' and strategy = 'narrowing\(.*: distributions are learnt over"
    ):
        load(narrowing(tmp_path, ", gradient='drnas'"))


ENSEMBLE = """
from torch import nn
from search_spaces import EnsembleSpace
from supernets.models import ensemble
from supernets.tasks import EachPath

def build(arch):
    return nn.Sequential(nn.Unflatten(1, (1, 8, 8)), ensemble.build(arch, stem=4, head=8, widths=(4,) * 8))
"""


@pytest.mark.slow
def test_an_ensemble_is_searched_narrowed_and_taken_home(nas_: Nas, tmp_path: Path) -> None:
    strategy = "narrowing(keep=3, start=0.4, stop=0.8, least=2, probes=1)"
    path = variant(
        tmp_path,
        "space=EnsembleSpace(split=(4, 0)), build=build, task=EachPath(tiny.run.task, alone=True), trust=0, "
        f"training=replace(tiny.run.training, strategy={strategy!r}, evaluate_every=0, checkpoint_every=20), "
        "objectives=('error', 'macs'), limits=('error_alone <= 1',), evaluations=6, batch=3",
        before=ENSEMBLE,
    )
    status, _, err = nas_("search", path)
    assert status == 0, err
    with Repository(f"sqlite:///{tmp_path / 'nas.db'}", read_only=True) as repository:
        closed = repository.study("tiny").settings["closed"]
        found = repository.evaluations("tiny")
    assert {row["path"].split(".")[0] for row in closed} == {"first", "second"}
    assert all(one.metrics["error_alone"] >= 0 and one.error is None for one in found)
    status, _, err = nas_("export", "tiny", "--to", "net")
    assert status == 0, err
    status, _, err = nas_("check", "net")
    assert status == 0, err
