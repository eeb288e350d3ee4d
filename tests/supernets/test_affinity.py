"""Affinity mimicking and manual inheritance of TinyCLIP, by the exact checks."""

import pytest
import torch
from torch import Tensor, nn

from search_spaces import Architecture, Space, choice
from supernets import Supernet, SupernetError, stack
from supernets.compression.inheritance import evenly, with_blocks
from supernets.distillation import Affinity, DistillationError, Distilled
from supernets.distillation.comparing import affinity_divergence
from supernets.training import TrainingConfig, train_network
from tests.supernets.toy import Digits


def double(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


IMAGES, TEXTS = double(7, 5, seed=1), double(7, 5, seed=2)
TAUGHT = double(7, 9, seed=3), double(7, 9, seed=4)
SCALE = 50.0

# --- the loss -----------------------------------------------------------------------------------------------------


def published(student: tuple[Tensor, Tensor], parent: tuple[Tensor, Tensor]) -> tuple[float, float]:
    """The cross-entropies over rows and columns, and the parent's entropies, element by element."""
    normal = [[x / x.square().sum(1, keepdim=True).sqrt() for x in pair] for pair in (student, parent)]
    own, taught = (SCALE * pair[0] @ pair[1].T for pair in normal)
    loss = entropy = 0.0
    for a, b in ((own, taught), (own.T, taught.T)):
        for row, target in zip(a.tolist(), b.tolist(), strict=True):
            q, p = (torch.tensor(x, dtype=torch.float64).softmax(0) for x in (row, target))
            loss += float(-(p * q.log()).sum()) / len(a) / 2
            entropy += float(-(p * p.log()).sum()) / len(a) / 2
    return loss, entropy


def test_it_is_the_published_loss_but_for_the_parents_entropies() -> None:
    loss, entropy = published((IMAGES, TEXTS), TAUGHT)
    assert float(affinity_divergence((IMAGES, TEXTS), TAUGHT, SCALE)) == pytest.approx(loss - entropy, abs=1e-10)


def test_it_is_nothing_where_student_is_parent_and_else_more() -> None:
    assert abs(float(affinity_divergence((IMAGES, TEXTS), (IMAGES, TEXTS), SCALE))) < 1e-12
    for seed in range(20):
        other = IMAGES + 0.05 * double(7, 5, seed=seed + 10)
        assert float(affinity_divergence((other, TEXTS), (IMAGES, TEXTS), SCALE)) > 1e-6


def test_it_does_not_mind_a_joint_rotation_and_minds_that_of_one() -> None:
    rotation = torch.linalg.qr(double(5, 5, seed=8)).Q
    before = float(affinity_divergence((IMAGES, TEXTS), TAUGHT, SCALE))
    jointly = float(affinity_divergence((IMAGES @ rotation, TEXTS @ rotation), TAUGHT, SCALE))
    assert jointly == pytest.approx(before, abs=1e-12)
    assert abs(float(affinity_divergence((IMAGES @ rotation, TEXTS), TAUGHT, SCALE)) - before) > 1e-3


def test_mixed_precision_leaves_affinities_as_they_are() -> None:
    student, parent = (tuple(x.float() for x in pair) for pair in ((IMAGES, TEXTS), TAUGHT))
    before = affinity_divergence(student, parent, SCALE)  # type: ignore[arg-type]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(affinity_divergence(student, parent, SCALE), before)  # type: ignore[arg-type]


def test_lengths_of_embeddings_do_not_count() -> None:
    before = float(affinity_divergence((IMAGES, TEXTS), TAUGHT, SCALE))
    assert float(affinity_divergence((3 * IMAGES, TEXTS / 7), TAUGHT, SCALE)) == pytest.approx(before, abs=1e-12)


def test_among_one_sets_embeddings_an_examples_affinity_to_itself_is_left_out() -> None:
    unit, taught = (x / x.norm(dim=1, keepdim=True) for x in (IMAGES, TAUGHT[0]))
    own, parents = 3 * unit @ unit.T, 3 * taught @ taught.T
    expected = 0.0
    for i in range(7):
        others = [j for j in range(7) if j != i]
        q, p = own[i, others].log_softmax(0), parents[i, others].log_softmax(0)
        expected += float((p.exp() * (p - q)).sum()) / 7
    found = affinity_divergence((IMAGES, IMAGES), (TAUGHT[0], TAUGHT[0]), 3.0)
    assert float(found) == pytest.approx(expected, abs=1e-12)


# --- as a task's loss ---------------------------------------------------------------------------------------------


class Pair(nn.Module):
    """Two encoders of the halves of an image."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.upper, self.lower = nn.Linear(32, width), nn.Linear(32, width)

    def forward(self, x: Tensor) -> Tensor:
        upper, lower = self.upper(x[:, :32]), self.lower(x[:, 32:])
        outputs: Tensor = torch.cat([upper, lower], 1)[:, :10]
        return outputs


def encoders(width: int, seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Pair(width)


def test_a_pair_of_encoders_learns_affinities_alone() -> None:
    """By no label; the parent is wider."""
    task = Distilled(Digits(), encoders(24, 1), [Affinity(scale=5, between=("upper", "lower"))], labels=0)
    student = encoders(8, 2)
    result = train_network(student, task, TrainingConfig(steps=60, lr=1e-2, evaluate_every=0), progress=False)
    assert result.losses[-1] < 0.5 * result.losses[0]


def test_of_outputs_it_is_part_of_the_loss() -> None:
    task = Distilled(Digits(), encoders(24, 1), [Affinity(scale=5, weight=2)], labels=0)
    batch, student = Digits().batch(0, 0), encoders(8, 2)
    outputs, taught = (network(batch[0]).detach() for network in (student, encoders(24, 1)))
    expected = 2 * float(affinity_divergence((outputs, outputs), (taught, taught), 5))
    assert float(task.loss(outputs, batch)) == pytest.approx(expected, rel=1e-6)


def test_affinity_mistakes_get_one_line() -> None:
    with pytest.raises(DistillationError, match="scale = 0: it must be above 0"):
        Affinity(scale=0)
    task = Distilled(Digits(), encoders(8, 1), [Affinity()])
    with pytest.raises(DistillationError, match=r"embeddings \(1, 10\) and \(1, 10\): both must be .* of two examples"):
        task.loss(torch.ones(1, 10), (torch.ones(1, 64), torch.zeros(1, dtype=torch.long)))
    with pytest.raises(DistillationError, match="the parent has no layer 'image'"):
        Distilled(Digits(), encoders(8, 1), [Affinity(between=("image", "lower"))])


# --- manual inheritance -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("blocks", "kept", "expected"),
    [
        (12, 6, [0, 2, 4, 6, 8, 10]),
        (12, 12, list(range(12))),
        (12, 5, [0, 2, 4, 7, 9]),  # the published step of 2 would keep 0, 2, 4, 6, 8
        (12, 7, [0, 1, 3, 5, 6, 8, 10]),  # and a step of 1 the first seven
        (12, 1, [0]),
    ],
)
def test_blocks_are_spread_evenly(blocks: int, kept: int, expected: list[int]) -> None:
    assert evenly(blocks, kept) == expected


@pytest.mark.parametrize("blocks", range(1, 30))
def test_gaps_between_blocks_differ_by_one_at_most_and_the_end_is_not_forgotten(blocks: int) -> None:
    for kept in range(1, blocks + 1):
        found = evenly(blocks, kept)
        gaps = {b - a for a, b in zip(found, [*found[1:], blocks], strict=True)}
        assert max(gaps) - min(gaps) <= 1 and found[0] == 0


class Depths(Space):
    width = choice(4, 6)
    depth = choice(1, 2, 3, 4, 5, 6)


def deep(arch: Architecture) -> nn.Module:
    blocks = stack(nn.Sequential(nn.Linear(arch.width, arch.width), nn.GELU()) for _ in range(arch.depth))
    return nn.Sequential(nn.Linear(5, arch.width), blocks, nn.Linear(arch.width, 2))


def test_inheriting_at_equal_size_is_the_identity() -> None:
    parent = deep(Depths().largest())
    state = with_blocks(parent.state_dict(), {"1": evenly(6, 6)})
    assert state.keys() == parent.state_dict().keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in parent.state_dict().items())


def test_a_shallower_supernet_begins_with_every_second_block() -> None:
    parent = deep(Depths().largest())
    space = Depths().where(depth=(1, 2, 3))
    supernet = Supernet(space, deep, init=with_blocks(parent.state_dict(), {"1": evenly(6, 3)}))
    expected = nn.Sequential(parent[0], *(parent[1][i] for i in (0, 2, 4)), parent[2])
    assert torch.equal(supernet.extract(space.largest())(IMAGES.float()), expected(IMAGES.float()))


def test_inheritance_mistakes_get_one_line() -> None:
    with pytest.raises(SupernetError, match="kept = 7 of 6 blocks: it must be from 1 to 6"):
        evenly(6, 7)
    state = deep(Depths().largest()).state_dict()
    with pytest.raises(SupernetError, match="has no block 6 below '1': it has 0 to 5"):
        with_blocks(state, {"1": [0, 6]})
    with pytest.raises(SupernetError, match=r"has no block 0 below 'layers': its names are like '0\.weight'"):
        with_blocks(state, {"layers": [0]})
