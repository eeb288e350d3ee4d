"""From trained weights to smaller networks: relative limits, fine-tuning, folders, and what is refused."""

import json
from pathlib import Path

import pytest
import torch

from nas.results import front
from nas.run_file import load
from nas.stages import compressing, evaluators
from nas.stages.compressing import study_name
from nas.storage import Repository
from supernets.compression import scores
from supernets.compression.learnt_gates import Gates, learn_gates
from supernets.export import rebuilt
from tests.nas import tiny_run
from tests.nas.command import TINY, Nas, caller

RUN = Path(__file__).with_name("compress_run.py")


@pytest.fixture
def nas(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Nas:
    return caller(monkeypatch, capsys)


def options(place: Path) -> list[str]:
    return ["--storage", f"sqlite:///{place / 'nas.db'}", "--runs", str(place / "runs")]


def test_compress_writes_networks_within_the_limits(nas: Nas, tmp_path: Path) -> None:
    place = tmp_path
    asked = ["--limit", "params <= 0.6x", "--networks", "2", "--steps", "30", "--formats", "safetensors"]
    done = nas("compress", RUN, "--to", place / "out", *asked, *options(place))
    assert done.status == 0, done.err
    folders = sorted((place / "out").iterdir())
    assert len(folders) == 2
    parent = tiny_run.build(tiny_run.TinySpace().largest())
    whole = sum(parameter.numel() for parameter in parent.parameters())
    for folder in folders:
        network = rebuilt(folder)
        assert sum(parameter.numel() for parameter in network.parameters()) <= 0.6 * whole
        told = json.loads((folder / "architecture.json").read_text())["metadata"]
        assert told["finetuned"]
        assert tiny_run.run.task.evaluate(network)["error"] == pytest.approx(told["metrics"]["error"])
    assert "parent" in done.out and "as found" in done.out
    with Repository(f"sqlite:///{place / 'nas.db'}", read_only=True) as stored:
        assert [study.name for study in stored.studies()] == ["smaller-params-0.6x"]
        assert front.front(stored, "smaller-params-0.6x", ["params <= 0.4x"])

    # the study goes on, and its networks are exported, with no limit said again
    again = nas("resume", "smaller-params-0.6x", *options(place))
    assert again.status == 0, again.err
    taken = nas("export", "smaller-params-0.6x", "--to", place / "one", "--formats", "safetensors", *options(place))
    assert taken.status == 0, taken.err


def test_the_run_file_is_executed_once(nas: Nas, tmp_path: Path) -> None:
    times = tmp_path / "times"
    counted = f"with open({str(times)!r}, 'a') as file:\n    file.write('once ')\n"
    (tmp_path / "counted.py").write_text(counted + RUN.read_text())
    asked = ["--limit", "params <= 0.001x", "--steps", "1", "--to", tmp_path / "out"]
    done = nas("compress", tmp_path / "counted.py", *asked, *options(tmp_path))
    assert "nothing keeps the limits" in done.err
    assert times.read_text() == "once "


def test_layers_are_reconstructed_before_networks_are_taken_home(nas: Nas, tmp_path: Path) -> None:
    file = tmp_path / "fitted_run.py"
    file.write_text(
        "from dataclasses import replace\n\nfrom tests.nas.compress_run import run as base\n\n"
        "run = replace(base, name='fitted', reconstruct=4)\n"
    )
    asked = ["--limit", "params <= 0.6x", "--steps", "0", "--formats", "safetensors"]
    done = nas("--verbose", "compress", file, "--to", tmp_path / "out", *asked, *options(tmp_path))
    assert done.status == 0, done.err
    told = json.loads((tmp_path / "out" / "architecture.json").read_text())
    network, run = rebuilt(tmp_path / "out"), load(file)
    arch = run.space.architecture(told["architecture"])
    supernet = evaluators.untrained(run)
    plain = evaluators.network(supernet, run.task, arch).state_dict()
    fitted = evaluators.reconstructed(supernet, run.task, arch, 4).state_dict()
    found = network.state_dict()
    assert all(torch.allclose(found[name], fitted[name], atol=1e-5) for name in fitted)
    assert not all(torch.allclose(found[name], plain[name], atol=1e-2) for name in plain)
    assert told["metadata"]["reconstructed"] == 4
    assert run.task.evaluate(network)["error"] == pytest.approx(told["metadata"]["metrics"]["error"])


def test_names_of_studies_tell_their_limits() -> None:
    assert study_name("mine", []) == "mine"
    assert study_name("mine", ["params <= 0.5x", "latency_ms@cpu<=2"]) == "mine-params-0.5x-latency-ms-cpu-2"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            (TINY, "--limit", "params <= 0.5x"),
            "tiny starts with no trained weights, which compression needs: write init=",
        ),
        (
            (RUN, "--limit", "params <= 0.5x"),
            "keeps the weights it began with, so its steps give no measure: say --steps",
        ),
        ((RUN, "--steps", "1", "--limit", "params <= half"), "'half', which is not a number"),
        ((RUN, "--steps", "1", "--limit", "params <= 0.001x"), "keep params <= 8.962, nearest 610; loosen"),
        (
            (RUN, "--steps", "1", "--limit", "params <= 0.2x", "--limit", "error <= 0.0001"),
            "keeps params <= 1792.4, error <= 0.0001 (the nearest of 16 evaluated have params 6",
        ),
    ],
)
def test_what_cannot_be_done_is_one_line(nas: Nas, words: tuple[object, ...], line: str, tmp_path: Path) -> None:
    done = nas("compress", *words, "--to", tmp_path / "out", *options(tmp_path))
    assert done.status == 1
    assert line in " ".join(done.err.split())
    assert not (tmp_path / "out").exists()


def test_a_run_sorted_by_learnt_gates_begins_with_what_they_leave(
    nas: Nas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learnt = []

    def learn(*given: object) -> Gates:
        learnt.append(given)
        return learn_gates(*given)  # type: ignore[arg-type]

    for module in (compressing, scores):
        monkeypatch.setattr(module, "learn_gates", learn)
    run_file = tmp_path / "masked_run.py"
    text = RUN.read_text(encoding="utf-8").replace('name="smaller"', 'name="masked", sort="gates(steps=5)"')
    run_file.write_text(text, encoding="utf-8")
    asked = ["--limit", "params <= 0.6x", "--steps", "0", "--formats", "safetensors"]
    done = nas("compress", run_file, "--to", tmp_path / "out", *asked, *options(tmp_path))
    assert done.status == 0, done.err
    assert len(learnt) == 1, "for the order of units and for the first network"
    with Repository(f"sqlite:///{tmp_path / 'nas.db'}", read_only=True) as stored:
        (study,) = stored.studies()
        first = stored.evaluations(study.name)[0]
        assert len(study.settings["first"]) == 1
        assert first.arch.json() == study.settings["first"][0] or first.arch.to_dict() == study.settings["first"][0]
        parent = tiny_run.build(tiny_run.TinySpace().largest())
        assert first.metrics["params"] <= 0.6 * sum(parameter.numel() for parameter in parent.parameters())
