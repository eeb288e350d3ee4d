"""Several workers that train together end as one does with the same batches; here they are threads of one process."""

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import toy
from torch import Tensor, nn
from toy import Digits, ToySpace

from search_spaces import Architecture, Space, choice
from supernets.sharing import sharing
from supernets.structure import stack
from supernets.supernet import Supernet
from supernets.tasks import Classification, LanguageModelling
from supernets.teams import ALONE, Team, TeamError
from supernets.training import TrainingConfig, TrainingResult, train

STRATEGIES = [
    "uniform",
    "sandwich(num_random=1)",
    "sandwich(distil=none)",
    "fair(rounds=2)",
    "attentive",
    "pada(reweight=yes)",
    "progressive",
    "two-stage",
]


def build(arch: Architecture) -> nn.Module:
    """The toy's perceptron without dropout, whose random numbers each worker draws for itself."""
    return toy._perceptron(arch, lambda width: nn.LayerNorm(width))


def digits(batch_size: int, dtype: torch.dtype = torch.float64) -> Classification:
    images, labels = toy.digits()
    return Classification(
        (images[:40], labels[:40]), (images[40:140], labels[40:140]), batch_size=batch_size, dtype=dtype
    )


@dataclass(frozen=True)
class Trained:
    weights: dict[str, Tensor]
    result: TrainingResult


def trained(
    size: int,
    builder: Any = build,
    task: Any = None,
    dtype: torch.dtype = torch.float64,
    shared: str = "entangled",
    space: Space | None = None,
    folder: Path | None = None,
    **settings: Any,
) -> list[Trained]:
    """What each worker of a team ends with."""
    task = task or digits(13, dtype)
    config = TrainingConfig(**{"steps": 7, "lr": 1e-2, "evaluate_every": 4, "precision": "fp32"} | settings)
    place = Path(os.environ["TEAMS_PLACE"]) / f"{threading.get_ident()}-{len(os.listdir(os.environ['TEAMS_PLACE']))}"

    def one(rank: int) -> Trained:
        supernet = Supernet(
            space or ToySpace(), builder, sharing=sharing(shared), seed=1 if rank == 0 else 99, dtype=dtype
        )
        team = ALONE if size == 1 else Team.meet(place, rank, size)
        try:
            found = train(supernet, task, config, directory=folder if rank == 0 else None, progress=False, team=team)
        finally:
            team.leave()
        return Trained({name: tensor.clone() for name, tensor in supernet.state_dict().items()}, found)

    with ThreadPoolExecutor(size) as threads:
        return [future.result() for future in [threads.submit(one, rank) for rank in range(size)]]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "teams").mkdir()
    monkeypatch.setenv("TEAMS_PLACE", str(tmp_path / "teams"))
    yield


def require_equal(one: Trained, several: list[Trained], tolerance: float) -> None:
    first = several[0]
    for other in several[1:]:
        assert all(torch.equal(other.weights[name], first.weights[name]) for name in first.weights), "the same bits"
    for name, expected in one.weights.items():
        torch.testing.assert_close(first.weights[name], expected, rtol=tolerance, atol=tolerance)
    assert first.result.losses == pytest.approx(one.result.losses, rel=max(tolerance, 1e-6))
    assert [(p.step, p.which) for p in first.result.curve] == [(p.step, p.which) for p in one.result.curve]


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_team_ends_as_one_worker_does(strategy: str, size: int) -> None:
    (one,) = trained(1, strategy=strategy)
    require_equal(one, trained(size, strategy=strategy), 1e-11)


@pytest.mark.parametrize("shared", ["routed(experts=2, mixed=*)", "split(models=2)", "balanced(models=2)", "lowrank"])
def test_however_weights_are_shared(shared: str) -> None:
    (one,) = trained(1, shared=shared, strategy="sandwich(num_random=1)")
    require_equal(one, trained(2, shared=shared, strategy="sandwich(num_random=1)"), 1e-11)


def test_batch_norm_takes_the_statistics_of_the_whole_batch() -> None:
    (one,) = trained(1, toy.build_normed)
    several = trained(3, toy.build_normed)
    assert any("running_var" in name for name in one.weights)
    require_equal(one, several, 1e-9)


@pytest.mark.parametrize("settings", [{"optimizer": "sgd"}, {"average": 0.5}, {"clip": 0.05}])
def test_with_other_optimisers_averages_and_clipping(settings: dict[str, Any]) -> None:
    (one,) = trained(1, **settings)
    require_equal(one, trained(2, **settings), 1e-11)


def test_in_single_precision() -> None:
    (one,) = trained(1, dtype=torch.float32, optimizer="sgd")
    require_equal(one, trained(2, dtype=torch.float32, optimizer="sgd"), 1e-5)


class Words(Space):
    width = choice(8, 12)
    depth = choice(1, 2)


def build_words(arch: Architecture) -> nn.Module:
    blocks = [nn.Sequential(nn.LayerNorm(arch.width), nn.Linear(arch.width, arch.width)) for _ in range(arch.depth)]
    return nn.Sequential(nn.Embedding(9, arch.width), stack(blocks), nn.Linear(arch.width, 9))


def test_a_language_model() -> None:
    tokens = torch.randint(9, (400,), generator=torch.Generator().manual_seed(0))
    task = LanguageModelling(tokens[:300], tokens[300:], context=8, batch_size=5)
    (one,) = trained(1, build_words, task, space=Words())
    require_equal(one, trained(2, build_words, task, space=Words()), 1e-11)


def test_steps_that_are_not_finite_are_left_out_by_all() -> None:
    (one,) = trained(1, task=Broken(), dtype=torch.float32, optimizer="sgd")
    several = trained(2, task=Broken(), dtype=torch.float32, optimizer="sgd")
    assert [found.result.skipped for found in (one, *several)] == [1, 1, 1]
    for name, expected in one.weights.items():
        torch.testing.assert_close(several[1].weights[name], expected, rtol=1e-5, atol=1e-5)


class Broken(Digits):
    """One example of one step is no number: only one worker sees it."""

    def batch(self, step: int, seed: int) -> tuple[Tensor, Tensor]:
        images, labels = super().batch(step, seed)
        images = images.clone()
        if step == 3:
            images[0] = torch.nan
        return images, labels


def test_a_team_goes_on_from_a_checkpoint_with_the_same_bits(tmp_path: Path) -> None:
    whole = trained(2, steps=8)[0]
    with pytest.raises(Stop):
        trained(2, task=Stopping(5), folder=tmp_path / "supernet", steps=8, checkpoint_every=2)
    resumed = trained(2, folder=tmp_path / "supernet", steps=8, checkpoint_every=2)
    assert resumed[0].result.resumed_from == 4
    for found in resumed:
        assert all(torch.equal(found.weights[name], whole.weights[name]) for name in whole.weights)
    assert resumed[0].result.losses == whole.result.losses


class Stop(Exception):
    pass


class Stopping(Classification):
    """Its data ends at a step, as a worker may."""

    def __init__(self, last: int) -> None:
        whole = digits(13)
        splits = {name: (part.inputs, part.targets) for name, part in whole.splits.items()}
        super().__init__(**splits, batch_size=13, dtype=torch.float64)
        self.last = last

    def batch(self, step: int, seed: int) -> Any:
        if step == self.last:
            raise Stop
        return super().batch(step, seed)


def test_losing_a_worker_ends_the_training_in_one_line(tmp_path: Path) -> None:
    def leaving(rank: int, team: Team) -> Callable[[], object]:
        task = Stopping(4 if rank else 10**6)
        supernet = Supernet(ToySpace(), build, dtype=torch.float64)
        config = TrainingConfig(steps=7, precision="fp32")
        return lambda: train(supernet, task, config, progress=False, team=team)

    def one(rank: int) -> BaseException | None:
        team = Team.meet(tmp_path / "meeting", rank, 2)
        try:
            leaving(rank, team)()
        except Exception as error:
            return error
        finally:
            team.leave()
        return None

    with ThreadPoolExecutor(2) as threads:
        first, second = [future.result(60) for future in [threads.submit(one, rank) for rank in range(2)]]
    assert isinstance(second, Stop)
    assert isinstance(first, TeamError) and "a training worker is gone" in str(first) and "\n" not in str(first)


class Summed(Classification):
    """A loss that is a sum over examples."""

    def loss(self, outputs: Tensor, batch: Any) -> Tensor:
        return F.cross_entropy(outputs, batch.targets, reduction="sum")


class Shared(Summed):
    def share(self, part: Any, whole: Any) -> float:
        return 1.0


def of_kind(kind: type[Classification]) -> Classification:
    splits = {name: (part.inputs, part.targets) for name, part in digits(13).splits.items()}
    return kind(**splits, batch_size=13, dtype=torch.float64)


def test_a_loss_that_is_no_mean_is_refused_unless_the_task_tells_its_share() -> None:
    with pytest.raises(TeamError, match=r"needs? a loss that is a mean over examples, or a task with share"):
        trained(2, task=of_kind(Summed))
    (one,) = trained(1, task=of_kind(Shared))
    require_equal(one, trained(2, task=of_kind(Shared)), 1e-11)


def test_a_batch_too_small_and_who_does_not_come_are_told(tmp_path: Path) -> None:
    with pytest.raises(TeamError, match="a batch of 2 examples cannot be shared by 3 training workers"):
        trained(3, task=digits(2))
    with pytest.raises(TeamError, match=r"2 training workers did not meet within 0\.2 s"):
        Team.meet(tmp_path / "nobody", 0, 2, within_s=0.2)
