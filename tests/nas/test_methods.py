"""Every training strategy, sharing of weights and gradient method, from the command line to the database and back."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nas.records import StudyRecord, SupernetRecord
from nas.run import Run, RunError
from nas.run_file import load
from nas.run_variants import as_trained, changed
from nas.searchers.gradient import METHODS
from nas.stages import evaluators
from nas.storage import Repository
from supernets.sharing import SHARINGS
from supernets.strategies import STRATEGIES
from tests.nas.command import TINY, Nas, caller, variant

ROOT = Path(__file__).parents[2]
ROUTED = "routed(experts=3)"


@pytest.fixture
def nas_(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Nas:
    for name in ("NAS_STORAGE", "NAS_RUNS", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return caller(monkeypatch, capsys)


def short(folder: Path, steps: int = 4, more: str = "") -> Path:
    training = f"training=replace(tiny.run.training, steps={steps}, evaluate_every=0, checkpoint_every=3)"
    return variant(folder, f"{training}, evaluations=6, trust=0{more}")


def recorded(folder: Path) -> SupernetRecord:
    with Repository(f"sqlite:///{folder / 'nas.db'}", read_only=True) as repository:
        (record,) = repository.supernets()
    return record


# --- each of them


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_trains_a_supernet(strategy: str, nas_: Nas, tmp_path: Path) -> None:
    status, out, err = nas_("train", short(tmp_path), "--strategy", strategy)
    assert status == 0, err
    assert f"supernet: trained 4 steps of '{strategy}' in " in out
    assert recorded(tmp_path).settings["strategy"] == strategy


@pytest.mark.parametrize("sharing", SHARINGS)
def test_every_sharing_is_trained_and_found_again_by_a_worker(sharing: str, nas_: Nas, tmp_path: Path) -> None:
    path = short(tmp_path)
    status, out, err = nas_("train", path, "--sharing", sharing)
    assert status == 0, err
    assert re.search(rf"^tiny: 104 architectures, [\d,]+ shared parameters \({sharing}\)$", out, re.MULTILINE)
    record = recorded(tmp_path)
    assert record.sharing == sharing
    evaluate = evaluators.load_evaluator(str(path), record.weights_path, sharing, load(path).training)
    assert evaluate.supernet.digest() == record.digest
    assert 0 <= evaluate(load(path).space.largest())["error"] <= 1


def test_settings_have_one_spelling(nas_: Nas, tmp_path: Path) -> None:
    flags = ("--strategy", "sandwich( num_random = 1,distil=kl)", "--sharing", "routed(experts=3, per=layer)")
    assert nas_("train", short(tmp_path), *flags).status == 0
    record = recorded(tmp_path)
    assert (record.settings["strategy"], record.sharing) == ("sandwich(num_random=1)", ROUTED)


def test_a_training_of_learning_methods_that_is_stopped_goes_on(
    nas_: Nas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from supernets.training import Loop

    path, flags = short(tmp_path, steps=8), ("--strategy", "pada", "--sharing", "balanced(models=2)")
    assert nas_("train", path, *flags, "--name", "whole", "--storage", "sqlite:///whole.db").status == 0
    step = Loop._step

    def dies(self: Any, index: int, passes: Any) -> None:
        if index == 7:
            raise OSError(28, "No space left on device", "weights.part")
        step(self, index, passes)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_step", dies)
        assert nas_("train", path, *flags, "--name", "stopped").status == 1
    out = nas_("train", path, *flags, "--name", "stopped").out
    assert re.search(r"^supernet: went on from step 6 to 8 steps of 'pada'", out, re.MULTILINE)
    with Repository("sqlite:///whole.db", read_only=True) as repository:
        (whole,) = repository.supernets()
    assert recorded(tmp_path).digest == whole.digest


# --- found again


def test_a_study_goes_on_without_its_flags(nas_: Nas, tmp_path: Path) -> None:
    path = short(tmp_path)
    flags = ("--strategy", "uniform(over=choices)", "--sharing", ROUTED, "--name", "other")
    out = nas_("train", path, *flags).out
    told = f"next: nas search {path} --strategy 'uniform(over=choices)' --sharing '{ROUTED}' --name other"
    assert out.splitlines()[-1] == told
    status, out, err = nas_("search", path, *flags)
    assert status == 0, err
    assert "supernet: found trained, 4 steps of 'uniform(over=choices)'" in out

    for command in (["resume", "other"], ["export", "other", "--to", "a"], ["finetune", "other", "--to", "b"]):
        status, out, err = nas_(*command, *([] if command[0] == "resume" else ["--formats", "safetensors"]))
        assert status == 0, err
    assert "found trained, 4 steps of 'uniform(over=choices)'" in nas_("resume", "other").out
    told = nas_("show", "other").out
    assert re.search(rf"^sharing +{re.escape(ROUTED)}$", told, re.MULTILINE)
    assert re.search(r"^strategy +uniform\(over=choices\)$", told, re.MULTILINE)
    record = json.loads((tmp_path / "a" / "architecture.json").read_text())
    assert record["metadata"]["weights"] == recorded(tmp_path).digest


def test_two_studies_of_one_run_file_stand_beside_each_other(nas_: Nas, tmp_path: Path) -> None:
    path = short(tmp_path)
    assert nas_("search", path).status == nas_("search", path, "--sharing", ROUTED, "--name", "mixed").status == 0
    assert [study["name"] for study in json.loads(nas_("studies", "--json").out)] == ["tiny", "mixed"]
    assert sorted(folder.name for folder in (tmp_path / "runs").iterdir()) == ["mixed", "tiny"]


def test_a_folder_of_other_settings_says_how_to_name_this_one(nas_: Nas, tmp_path: Path) -> None:
    path = short(tmp_path)
    assert nas_("train", path).status == 0
    for flag, value, there in (
        ("--sharing", "routed", '"entangled"'),
        ("--strategy", "uniform", '"sandwich(distil=none)"'),
    ):
        status, _, err = nas_("train", path, flag, value)
        assert status == 1 and err.count("\n") == 1
        assert f'is {there} there and "{value}" here' in err
        assert err.endswith("--name NAME\n")


@pytest.fixture
def run() -> Run:
    return load(TINY)


def trained_records(run: Run, **settings: Any) -> tuple[StudyRecord, SupernetRecord]:
    study = StudyRecord("other", run.space.digest, "0" * 16, ("error",), (), "random", 0)
    known = {"steps": 7, "lr": 0.5, "strategy": "fair", "skipped": 3, "clip": None, "precision": "bf16"}
    return study, SupernetRecord("0" * 16, run.space.digest, "x", ROUTED, "", "", 7, known | settings)


def test_what_the_database_says_of_a_training_is_taken_over(run: Run) -> None:
    found = as_trained(run, *trained_records(run))
    config = found.training
    assert (found.name, found.sharing, config.steps, config.lr) == ("other", ROUTED, 7, 0.5)
    assert (config.strategy, config.clip, config.precision) == ("fair", float("inf"), "bf16")
    assert found.objectives == run.objectives


def test_another_space_is_refused(run: Run) -> None:
    with pytest.raises(RunError, match="another space than study 'other' was searched in: bring back the file"):
        as_trained(replace(run, space=run.space.at(depth=0)), *trained_records(run))


def test_flags_change_what_they_name(run: Run) -> None:
    assert changed(run) == run
    found = changed(run, strategy="fair()", sharing="split( models=2)", name="n")
    assert (found.training.strategy, found.sharing, found.name) == ("fair", "split(models=2)", "n")
    assert replace(found, training=run.training, sharing=run.sharing, name=run.name) == run


# --- gradients


LEARNING = "from nas.searchers.gradient.config import GradientConfig\n"


def learning(folder: Path) -> Path:
    """The short run, with a gradient search of a few steps where one is asked for."""
    training = "training=replace(tiny.run.training, steps=4, evaluate_every=0)"
    search = "gradient_search=GradientConfig(steps=4, train_weights=False, lr_arch=0.1)"
    return variant(folder, f"{training}, evaluations=6, trust=0, {search}", LEARNING)


@pytest.mark.parametrize("gradient", METHODS)
def test_every_gradient_method_searches(gradient: str, nas_: Nas, tmp_path: Path) -> None:
    status, out, err = nas_("search", learning(tmp_path), "--searcher", "gradient", "--gradient", gradient)
    assert status == 0, err
    assert re.search(rf"^gradient search: 4 steps of '{gradient}' in \d+ s$", out, re.MULTILINE)
    with Repository(f"sqlite:///{tmp_path / 'nas.db'}", read_only=True) as repository:
        (found,) = repository.distributions("tiny")
        assert repository.evaluations("tiny")[0].arch == found.arch
    assert f"derived {found.arch.digest[:8]}, likeliest options at " in out
    told = nas_("show", "tiny").out
    assert re.search(r"^searcher +gradient$", told, re.MULTILINE)
    assert re.search(rf"^settings +batch 6, data \w+, distributions {found.digest}$", told, re.MULTILINE)
    assert f"gradient search: 4 steps of '{gradient}'" in told


def test_a_search_begins_with_what_was_learnt_and_goes_on_without_flags(nas_: Nas, tmp_path: Path) -> None:
    path = learning(tmp_path)
    status, first, err = nas_("search", path, "--gradient", "gdas( temperature = 5 )", "--name", "other")
    assert status == 0, err
    assert "4 steps of 'gdas(temperature=5)'" in first
    status, again, err = nas_("resume", "other")
    assert status == 0, err
    for out in (first, again):
        assert "supernet: " in out
    begin = "gradient search: 4 steps of 'gdas(temperature=5)'"
    assert again[again.index(begin) :] == first[first.index(begin) :]
    assert re.search(r"^searcher +surrogate$", nas_("show", "other").out, re.MULTILINE)


def test_warnings_of_a_gradient_search_are_shown(nas_: Nas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nas.stages import gradient as gradients

    search = gradients.search
    monkeypatch.setattr(
        gradients, "search", lambda *args, **more: [replace(search(*args, **more)[0], warnings=("it has [collapsed]",))]
    )
    out = nas_("search", learning(tmp_path), "--searcher", "gradient").out
    assert "\nit has [collapsed]\n" in out
    assert "\nit has [collapsed]\n" in nas_("show", "tiny").out


def test_another_searcher_leaves_the_gradient_method_of_the_file_aside(run: Run) -> None:
    learning = replace(run, gradient="darts")
    assert changed(learning, searcher="random").gradient == ""
    assert changed(learning, searcher="bayesian", gradient="gdas").gradient == "gdas"
    assert changed(learning, name="n").gradient == changed(learning, searcher="surrogate").gradient == "darts"


# --- listed


def test_methods_are_listed_with_settings_and_papers(nas_: Nas, monkeypatch: pytest.MonkeyPatch) -> None:
    out = nas_("methods").out
    assert re.search(
        r"^uniform +One architecture a step, sampled uniformly\n +over=networks\n +arXiv:1904\.00420$", out, re.M
    )
    assert re.search(r"^sandwich +.*\n +num_random=2, .*\n +arXiv:1903\.05134 arXiv:2003\.11142$", out, re.M)
    assert re.search(r"^entangled +Every architecture uses its box .*\n +arXiv:2107\.00651$", out, re.M)
    listed = json.loads(nas_("methods", "--json").out)
    assert [entry["name"] for entry in listed["strategy"]] == list(STRATEGIES)
    assert [entry["name"] for entry in listed["sharing"]] == list(SHARINGS)
    assert re.search(r"^drnas +.*\n +concentration=1, .*\n +arXiv:2006\.10355$", out, re.M)
    assert [entry["name"] for entry in listed["gradient"]] == list(METHODS)
    assert all(entry["summary"] and "arXiv" not in entry["summary"] for those in listed.values() for entry in those)


def test_methods_fit_a_terminal_of_80_columns(nas_: Nas, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code = "import sys; from nas.commands.app import main; sys.argv = ['nas', 'methods']; main()"
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "sandwich" in out
    assert max(len(line.rstrip()) for line in out.splitlines()) <= 80
    assert "num_random=2, distil=kl, temperature=1, sample=networks" in out, "settings are not broken within a word"
