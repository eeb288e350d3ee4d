"""The policy gradient: its formula, that it finds what was planted, and that layers learn which to tie."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from nas.objectives.limits import parse
from nas.records import Evaluation
from nas.searchers import PolicySearch, Searcher
from nas.storage import Repository
from search_spaces import Architecture, Space, choice
from tests.contracts.searcher import OBJECTIVES, SearcherContract, settings_are_refused
from tests.nas.command import Nas, caller, variant


class TestPolicySearch(SearcherContract):
    @pytest.fixture
    def make(self) -> Callable[..., Searcher]:
        return PolicySearch


class Ties(Space):
    tied = choice(True, False, per=12)


NEEDED = (1, 4)


def error(arch: Architecture) -> float:
    """Two layers need weights of their own, and the others hardly do."""
    return 0.1 + sum(0.1 if at in NEEDED else 0.004 for at, tied in enumerate(arch.tied) if tied)


def told(archs: Sequence[Architecture]) -> list[Evaluation]:
    return [Evaluation(arch, {"error": error(arch), "params": 130.0 - 10 * sum(arch.tied)}) for arch in archs]


def live(searcher: PolicySearch, batches: int, seed: int) -> list[Evaluation]:
    found: list[Evaluation] = []
    for batch in range(batches):
        new = told(searcher.ask(4, np.random.default_rng([seed, batch])))
        searcher.tell(new)
        found += new
    return found


def test_a_step_is_the_advantage_times_the_gradient_of_the_log_probability() -> None:
    """By finite differences, of a free space."""
    searcher = PolicySearch(Ties(), ("error",), lr=0.5)
    arch = Ties().architecture({"tied": [True, False] * 6})
    rng = np.random.default_rng(0)
    start = [rng.normal(size=2) for _ in range(12)]
    searcher._logits = [one.copy() for one in start]

    def log_probability(logits: Sequence[np.ndarray]) -> float:
        codes = Ties().codes([arch])[0]
        return float(sum(own[code] - np.log(np.exp(own).sum()) for own, code in zip(logits, codes, strict=True)))

    searcher._learn(arch, 0.7)
    for slot in range(12):
        for code in range(2):
            moved = [one.copy() for one in start]
            moved[slot][code] += 1e-6
            slope = (log_probability(moved) - log_probability(start)) / 1e-6
            assert searcher._logits[slot][code] - start[slot][code] == pytest.approx(0.5 * 0.7 * slope, abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_layers_that_need_weights_of_their_own_get_them_and_others_copy(seed: int) -> None:
    searcher = PolicySearch(Ties(), ("error", "params"), penalty=0.5)
    assert all(chances == [0.5, 0.5] for chances in searcher.chances.values())
    live(searcher, 50, seed)
    tied = [searcher.chances[f"tied.{at}"][0] for at in range(12)]
    assert all(tied[at] < 0.3 for at in NEEDED)
    assert all(tied[at] > 0.5 for at in set(range(12)) - set(NEEDED))


def test_without_a_penalty_parameters_are_free() -> None:
    free, dear = (PolicySearch(Ties(), ("error", "params"), penalty=penalty) for penalty in (0.0, 3.0))
    for searcher in (free, dear):
        live(searcher, 40, 0)
    means = [np.mean([chances[0] for chances in one.chances.values()]) for one in (free, dear)]
    assert means[0] < 0.5 < means[1]


def test_what_breaks_a_limit_loses_its_chances() -> None:
    searcher = PolicySearch(Ties(), ("error",), (parse("params <= 70"),))
    live(searcher, 30, 0)
    assert sum(chances[0] for chances in searcher.chances.values()) > 6.5


def test_chances_never_vanish_and_closed_options_have_none() -> None:
    space = Ties(**{"tied.0": (True,)})
    searcher = PolicySearch(space, ("error",), lr=50)
    live(searcher, 10, 0)
    assert "tied.0" not in searcher.chances
    assert all(0 < chance < 1 for chances in searcher.chances.values() for chance in chances)


def test_settings_are_checked() -> None:
    assert settings_are_refused(PolicySearch, lr=0) == "lr is 0; the step of a logit must be above 0, for example 0.2"
    assert settings_are_refused(PolicySearch, penalty=-1) == "penalty is -1; the weight of costs must be 0 or more"
    message = settings_are_refused(PolicySearch, memory=1)
    assert message == "memory is 1; it must be a share between 0 and 1, for example 0.95"
    assert OBJECTIVES == ("error", "cost")


TIED = """
from torch import nn
from search_spaces import Space, choice
from supernets import stack, tie

class Ties(Space):
    tied = choice(True, False, per=3)

def build(arch):
    blocks = [nn.Sequential(nn.LayerNorm(12), nn.Linear(12, 12), nn.ReLU()) for _ in range(4)]
    tie(blocks, arch.tied, but=("0.*",))
    return nn.Sequential(nn.Linear(64, 12), stack(blocks), nn.Linear(12, 10))
"""


def test_a_run_learns_which_layers_to_tie(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    nas_: Nas = caller(monkeypatch, capsys)
    path = variant(
        tmp_path, "space=Ties(), build=build, searcher='policy(lr=0.5)', evaluations=8, batch=4, trust=0", before=TIED
    )
    status, _, err = nas_("search", path)
    assert status == 0, err
    with Repository(f"sqlite:///{tmp_path / 'nas.db'}", read_only=True) as repository:
        found = {one.arch.tied: one.metrics["params"] for one in repository.evaluations("tiny")}
    own, shared = 64 * 12 + 12 + 12 * 10 + 10 + 4 * 24, 12 * 12 + 12
    assert found == {tied: own + (4 - sum(tied)) * shared for tied in found} and len(found) == 8
