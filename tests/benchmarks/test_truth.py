"""The committed tables are whole and of these spaces and settings, and a table grows from where it was stopped."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.stats import kendalltau
from torch import nn

import benchmarks.truth.__main__ as script
from benchmarks.truth import SPACES, TASKS, TruthError, TruthTask, load
from benchmarks.truth.__main__ import measure
from benchmarks.truth.image import halved
from benchmarks.truth.table import FOLDER, Row, append, begun, growing, header, read, spelled, truth
from nas.data import DataError
from search_spaces import Architecture, Space, choice
from supernets import Supernet
from supernets.profile import profile_network
from supernets.relaxation import Mixture
from supernets.skeleton import build_skeleton
from supernets.tasks import Classification
from supernets.training import TrainingConfig

NAMES = tuple(TASKS)


@cache
def loaded(name: str) -> TruthTask:
    """The task; reading its data and its digest take seconds, so once."""
    try:
        return load(name)
    except DataError as error:
        pytest.skip(str(error))


# --- what is committed ---


@pytest.mark.parametrize("name", NAMES)
def test_a_table_covers_its_space(name: str) -> None:
    known = truth(name)
    assert known.archs == tuple(SPACES[name].enumerate())
    assert known.seeds == (0, 1)
    assert known.values.shape == (len(known.archs), 2) and known.mean.shape == (len(known.archs),)
    assert all(np.isfinite(values).all() and (values > 0).all() for values in known.metrics.values())
    assert (known.metrics["error"] < 0.7).all(), "worse than most guesses: that training failed"


def test_there_are_as_many_architectures_as_is_said() -> None:
    assert (SPACES["image"].count(), SPACES["text"].count()) == (243, 96)


@pytest.mark.parametrize("name", NAMES)
def test_rows_say_the_architecture_twice_and_agree(name: str) -> None:
    space = SPACES[name]
    _, rows = read(FOLDER / f"{name}.csv")
    archs = space.decode([[int(code) for code in row.codes.split()] for row in rows])
    assert [arch.digest for arch in archs] == [row.digest for row in rows]
    assert len({(row.digest, row.seed) for row in rows}) == len(rows)


@pytest.mark.parametrize("name", NAMES)
def test_tables_are_small(name: str) -> None:
    assert (FOLDER / f"{name}.csv").stat().st_size < 150_000


@pytest.mark.parametrize("name", NAMES)
def test_a_yardstick_is_sharper_than_what_it_measures(name: str) -> None:
    known = truth(name)
    assert kendalltau(known.values[:, 0], known.values[:, 1]).statistic >= 0.75, "the seeds do not agree"
    for cost in (known.params, known.macs):
        assert abs(kendalltau(cost, known.mean).statistic) < 0.6, "size alone tells the order"


@pytest.mark.parametrize("name", NAMES)
def test_a_table_is_of_the_task_as_it_is_now(name: str) -> None:
    task, known = loaded(name), truth(name)
    assert (known.settings, known.metric) == (task.settings, task.metric)
    assert task.training.precision == "fp32"
    chosen = np.random.default_rng(0).choice(len(known.archs), 4, replace=False)
    for index in chosen:
        cost = profile_network(task.build(known.archs[index]), task.task.example())
        assert (cost.params, cost.macs) == (known.params[index], known.macs[index])


@pytest.mark.parametrize("name", NAMES)
def test_every_network_has_the_parameters_of_its_row(name: str) -> None:
    task, known = loaded(name), truth(name)
    built = [sum(p.numel() for p in build_skeleton(task.build, arch).parameters()) for arch in known.archs]
    assert built == known.params.tolist()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_row_comes_out_again(name: str) -> None:
    """Other processors round otherwise: what is close need not be equal."""
    task, known = loaded(name), truth(name)
    row = measure(task, known.archs[0], seed=1)
    assert row.loss == pytest.approx(known.metrics["loss"][0, 1], rel=0.1)


# --- the networks ---


@pytest.mark.parametrize("name", NAMES)
def test_subnets_are_the_networks_they_stand_for(name: str) -> None:
    task = loaded(name)
    supernet = Supernet(task.space, task.build)
    inputs = task.task.example(3)
    for arch in task.space.sample_many(4, np.random.default_rng(0)):
        with torch.no_grad():
            ours, theirs = supernet.subnet(arch).eval()(inputs), supernet.extract(arch).eval()(inputs)
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", NAMES)
def test_a_relaxation_of_one_network_is_that_network(name: str) -> None:
    task = loaded(name)
    supernet, inputs = Supernet(task.space, task.build), task.task.example(3)
    narrow = task.space.at(width=task.space.smallest().width)
    for _, arch in (*task.space.variants(), *narrow.variants()):
        with torch.no_grad():
            relaxed = supernet.relax(Mixture.one_hot(task.space, arch)).eval()(inputs)
            assert torch.allclose(relaxed, supernet.subnet(arch).eval()(inputs), rtol=0, atol=1e-5), arch


@pytest.mark.parametrize("name", NAMES)
def test_a_mixture_has_a_value_and_gradients(name: str) -> None:
    task = loaded(name)
    logits = {slot.path: torch.zeros(len(slot.options), requires_grad=True) for slot in task.space.slots}
    mixture = Mixture(task.space, {path: leaf.softmax(0) for path, leaf in logits.items()})
    outputs = Supernet(task.space, task.build).relax(mixture)(task.task.example(3))
    torch.autograd.backward(outputs.square().mean())
    for leaf in logits.values():
        assert leaf.grad is not None and leaf.grad.isfinite().all() and leaf.grad.any()


@pytest.mark.parametrize("order", ["none", "shift", "distance", "learned"])
def test_no_character_is_told_of_those_after_it(order: str) -> None:
    task = loaded("text")
    network = task.build(task.space.at(order=order).largest()).eval()
    tokens = task.task.example()
    changed = tokens.clone()
    changed[:, 20] = (tokens[:, 20] + 1) % 78
    with torch.no_grad():
        before, after = network(tokens), network(changed)
    assert torch.equal(before[:, :20], after[:, :20])
    assert not torch.equal(before[:, 20:], after[:, 20:])


def test_images_are_halved_by_means() -> None:
    images = np.random.default_rng(0).integers(256, size=(2, 1, 4, 6)) / np.float32(255)
    wanted = nn.functional.avg_pool2d(torch.from_numpy(images.astype(np.float32)), 2)
    assert torch.allclose(torch.from_numpy(halved(images.astype(np.float32))), wanted)


# --- the script ---


class Two(Space):
    width = choice(2, 4)


def build(arch: Architecture) -> nn.Module:
    return nn.Sequential(nn.Linear(6, arch.width), nn.BatchNorm1d(arch.width), nn.Linear(arch.width, 3))


def toy() -> TruthTask:
    rng = np.random.default_rng(0)

    def drawn(n: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        inputs = rng.normal(size=(n, 6)).astype(np.float32)
        return inputs, inputs[:, :3].argmax(1)

    task = Classification(drawn(64), drawn(32), batch_size=8)
    return TruthTask("toy", Two(), build, task, TrainingConfig(steps=3, precision="fp32"), "error")


def untimed(path: Path) -> list[Row]:
    return [replace(row, seconds=0.0) for row in read(path)[1]]


def test_a_table_goes_on_where_it_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task, whole, stopped = toy(), tmp_path / "whole.csv", tmp_path / "stopped.csv"
    script.make(task, whole, seeds=(0, 1))
    lines = whole.read_text().splitlines(keepends=True)
    stopped.write_text("".join(lines[:4]) + lines[4][:9])  # two rows, and a third that was cut short
    measured: list[tuple[Architecture, int]] = []

    def noted(task: TruthTask, arch: Architecture, seed: int) -> Row:
        measured.append((arch, seed))
        return measure(task, arch, seed)

    monkeypatch.setattr(script, "measure", noted)
    script.make(task, stopped, seeds=(0, 1))
    assert [(arch.width, seed) for arch, seed in measured] == [(4, 0), (4, 1)]
    assert untimed(stopped) == untimed(whole)
    measured.clear()
    script.make(task, stopped, seeds=(0, 1))
    assert measured == []


def test_several_processes_make_the_same_table(tmp_path: Path) -> None:
    script.make(toy(), tmp_path / "one.csv", seeds=(0, 1))
    script.make(toy(), tmp_path / "two.csv", seeds=(0, 1), processes=2)
    assert untimed(tmp_path / "one.csv") == untimed(tmp_path / "two.csv")


def test_seeds_are_other_weights_and_other_batches() -> None:
    first, again, other = (measure(toy(), Two().largest(), seed) for seed in (0, 0, 1))
    assert first.loss == again.loss != other.loss


def test_rows_of_other_settings_are_refused(tmp_path: Path) -> None:
    task, path = toy(), tmp_path / "toy.csv"
    script.make(task, path, seeds=(0,))
    before = path.read_text()
    for changed in (
        replace(task, training=replace(task.training, steps=4)),
        replace(task, space=Two(width=2)),
        replace(task, metric="loss"),
    ):
        with pytest.raises(TruthError, match=r"of other settings .*: give another folder, or delete it"):
            script.make(changed, path, seeds=(0,))
    assert path.read_text() == before
    assert task.settings == replace(task, training=replace(task.training, seed=7)).settings


# --- reading ---


def filled(path: Path, name: str, **changed: object) -> Path:
    """A whole table of an invented truth."""
    space = SPACES[name]
    path.write_text(f"# space {changed.get('space', space.digest)} settings 0123 metric loss\n")
    with growing(path) as file:
        file.write("codes,digest,seed,error,loss,params,macs,seconds\n")
        for index, arch in enumerate(space.enumerate()):
            for seed in (0, 1):
                codes = spelled(space.codes([arch])[0])
                append(file, Row(codes, arch.digest, seed, 0.5, index + seed / 2, 10, 20, 1.0))
    return path


def test_values_stand_in_the_order_of_the_space(tmp_path: Path) -> None:
    path = filled(tmp_path / "text.csv", "text")
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], *reversed(lines[2:])]) + "\n")
    known = truth("text", path)
    assert known.values.tolist() == [[index, index + 0.5] for index in range(96)]
    assert known.metric == "loss" and known.params.tolist() == [10] * 96 and known.macs.tolist() == [20] * 96


def test_a_table_with_a_gap_is_refused(tmp_path: Path) -> None:
    path = filled(tmp_path / "text.csv", "text")
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-1]))
    with pytest.raises(TruthError, match="191 rows, not one for each of 96 architectures and 2 seeds: finish it with"):
        truth("text", path)
    path.write_text("".join([*lines, lines[-1]]))
    with pytest.raises(TruthError, match="193 rows"):
        truth("text", path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("codes,digest\n", "begins with 'codes,digest': it is no truth table"),
        ("# space 0 settings 0 metric loss\ncodes,digest,seed\n0,ab,x\n", "line 3 is no row .*: delete the line"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "image.csv"
    path.write_text(content)
    with pytest.raises(TruthError, match=message):
        truth("image", path)


def test_a_table_of_another_space_or_of_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TruthError, match=r"is of space abcd, not of .*: make it anew"):
        truth("text", filled(tmp_path / "text.csv", "text", space="abcd"))
    with pytest.raises(TruthError, match=r"is not there: make it with python -m benchmarks\.truth image"):
        truth("image", tmp_path / "image.csv")
    for ask in (truth, load):
        with pytest.raises(TruthError, match="no truth is called 'sound': choose one of image, text"):
            ask("sound")


def test_an_unfinished_line_is_cut_off(tmp_path: Path) -> None:
    task, path = toy(), tmp_path / "toy.csv"
    assert begun(path, task) == []
    with path.open("a") as file:
        file.write("0,abc")
    assert begun(path, task) == []
    assert path.read_text() == header(task) + "\ncodes,digest,seed,error,loss,params,macs,seconds\n"
