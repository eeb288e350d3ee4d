"""Merged convolutions against composed ones, the two programmes against all there is, and a chain from end to end."""

import copy
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from supernets.compression.chain import Chain, Layer, padded
from supernets.compression.depth import Plan, Tables, compress, solve, times, values
from supernets.compression.merging import folded, identity
from supernets.compression.placing import chain_of, placed
from supernets.errors import CompressionError

EXACT = {"rtol": 1e-12, "atol": 1e-12}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def lively(module: nn.Module) -> nn.Module:
    """In float64 and evaluation, with batch norms that do something."""
    for child in module.modules():
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(child.weight, 0.5, 1.5)
            nn.init.normal_(child.bias)
            child.running_mean = torch.randn(child.num_features)
            child.running_var = torch.rand(child.num_features) + 0.5
    return module.double().eval()


def conv(a: int, b: int, size: int = 3, stride: int = 1, padding: Any = None, **settings: Any) -> nn.Conv2d:
    return nn.Conv2d(a, b, size, stride, size // 2 if padding is None else padding, **settings)


# --- merging


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (conv(3, 4, 3, padding=0), conv(4, 5, 3, padding=0)),
        (conv(3, 4, 3, padding=0, bias=False), conv(4, 5, 1)),
        (conv(3, 4, 3, 2, padding=0), conv(4, 5, 5, 3, padding=0)),  # strides multiply
        (conv(4, 4, 3, padding=0, groups=4), conv(4, 6, 1)),  # depthwise, then dense
        (conv(3, 4, 1), conv(4, 8, 3, padding=0, groups=4)),
        (conv(8, 8, 3, padding=0, groups=4), conv(8, 12, 3, padding=0, groups=2)),  # both fit into two groups
        (nn.Conv2d(3, 4, (1, 3), (2, 1)), nn.Conv2d(4, 2, (3, 2), (1, 2))),
        (nn.Conv1d(3, 4, 3, 2), nn.Conv1d(4, 5, 4)),
        (nn.Conv3d(2, 3, 2), nn.Conv3d(3, 2, 3, 2)),
    ],
)
def test_the_product_of_two_kernels_is_both_convolutions(one: Any, other: Any) -> None:
    one, other = one.double(), other.double()
    x = torch.randn(2, one.in_channels, *[14] * len(one.kernel_size)).double()
    kernel = folded(one).then(folded(other))
    torch.testing.assert_close(kernel.convolution(like=one.weight)(x), other(one(x)), **EXACT)
    assert kernel.groups == math.gcd(one.groups, other.groups)
    assert kernel.sizes == tuple(
        k + s * (l - 1)
        for k, s, l in zip(one.kernel_size, one.stride, other.kernel_size, strict=True)  # noqa: E741
    )


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_batch_norm_is_folded(affine: bool, bias: bool) -> None:
    layers = nn.Sequential(conv(3, 4, groups=1, bias=bias), nn.BatchNorm2d(4, affine=affine)).double().eval()
    layers[1].running_var.uniform_(0.5, 2)  # type: ignore[union-attr, operator]
    layers[1].running_mean.normal_()  # type: ignore[union-attr, operator]
    x = torch.randn(2, 3, 6, 6).double()
    layer = Layer(folded(*layers).convolution(like=layers[0].weight), (1, 1))  # type: ignore[arg-type]
    torch.testing.assert_close(padded(layer)(x), layers(x), **EXACT)


def test_the_identity_changes_nothing() -> None:
    one = conv(6, 4, padding=0, groups=2).double()
    kernel = identity(one).then(folded(one))
    assert kernel.groups == 2
    assert torch.equal(kernel.weight, one.weight)


# --- segments


def whole(*modules: nn.Module, shortcuts: Any = ()) -> Chain:
    return Chain.read([lively(module) for module in modules], shortcuts)


def mobile(width: int, hidden: int, stride: int = 1) -> nn.Sequential:
    """An inverted bottleneck."""
    return nn.Sequential(
        *(conv(width, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU6()),
        *(conv(hidden, hidden, 3, stride, bias=False, groups=hidden), nn.BatchNorm2d(hidden), nn.ReLU6()),
        *(conv(hidden, width, 1, bias=False), nn.BatchNorm2d(width)),
    )


SHAPES = [
    (lambda: [conv(3, 4), nn.ReLU(), conv(4, 4), nn.ReLU(), conv(4, 2, 5)], ()),
    (lambda: [conv(3, 4, 3, 2), nn.BatchNorm2d(4), nn.ReLU(), conv(4, 4, 3, 2), nn.ReLU(), conv(4, 2)], ()),
    (lambda: [conv(3, 3), nn.SiLU(), conv(3, 3), nn.BatchNorm2d(3), nn.SiLU(), conv(3, 3)], [(0, 2)]),
    (lambda: [conv(3, 4, 3, 2), nn.ReLU(), mobile(4, 6)], [(1, 4)]),
    (lambda: [conv(3, 4), nn.ReLU(), mobile(4, 6), mobile(4, 5), conv(4, 2, 3, 2)], [(1, 4), (4, 7)]),
    (lambda: [mobile(3, 5), mobile(3, 4)], [(0, 6), (0, 3), (3, 6)]),  # one within another, and two to one boundary
    (lambda: [conv(3, 4, padding="same"), nn.ReLU(), conv(4, 4, padding="valid")], ()),
]


@pytest.mark.parametrize(("make", "shortcuts"), SHAPES)
@pytest.mark.parametrize("side", [9, 12])
def test_one_convolution_is_the_whole_segment_at_its_borders_too(make: Any, shortcuts: Any, side: int) -> None:
    chain = whole(*make(), shortcuts=shortcuts)
    length = len(chain.layers)
    thin = chain.thinned([length], [])
    x = torch.randn(2, 3, side, side).double()
    merged = thin.merged()
    assert [type(module) for module in merged] == [nn.Conv2d]  # type: ignore[attr-defined]
    torch.testing.assert_close(merged(x), thin(x), **EXACT)
    assert thin(x).shape == chain(x).shape


def test_an_unchanged_chain_gives_what_its_modules_do() -> None:
    net = lively(nn.Sequential(conv(3, 4), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), conv(4, 5, 3, 2), nn.ReLU()))
    x = torch.randn(2, 3, 8, 8).double()
    chain = Chain.read(net)
    torch.testing.assert_close(chain(x), net(x), **EXACT)
    torch.testing.assert_close(chain.merged()(x), net(x), **EXACT)


def test_a_residual_block_is_what_it_was() -> None:
    block, end = lively(mobile(3, 5)), lively(conv(3, 3))
    x = torch.randn(2, 3, 7, 7).double()
    chain = Chain.read([block, nn.ReLU(), end, nn.ReLU()], [(0, 3), (3, 4)])
    y = torch.relu(x + block(x))
    torch.testing.assert_close(chain(x), torch.relu(y + end(y)), **EXACT)
    short = chain.thinned([2, 3, 4], [2, 3, 4])  # the shortcut leads over two segments, and stays
    merged = short.merged()
    assert isinstance(merged, Chain) and merged.added == ((0, 2),) and len(merged.segments) == 3
    torch.testing.assert_close(merged(x), short(x), **EXACT)


def test_without_moving_the_padding_borders_would_be_wrong_and_only_they() -> None:
    """The network that is trained on is therefore not the one before with identities for activations."""
    chain = whole(conv(3, 4), nn.ReLU(), conv(4, 2))
    x = torch.randn(1, 3, 8, 8).double()
    linear = whole(*(padded(layer) for layer in chain.layers))
    apart = (chain.thinned([2], [])(x) - linear(x)).abs()
    assert apart[..., 1:-1, 1:-1].max() < 1e-12
    assert apart.max() > 1e-2


def test_what_is_given_is_copied() -> None:
    net = nn.Sequential(conv(3, 4), nn.BatchNorm2d(4), nn.ReLU(), conv(4, 2))
    before = copy.deepcopy(net.state_dict())
    chain = Chain.read(net)
    thin = chain.thinned([2], [])
    thin(torch.randn(2, 3, 5, 5)).sum().backward()
    with torch.no_grad():
        for parameter in thin.parameters():
            parameter.add_(1.0)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert net[0].padding == (1, 1)
    assert all(parameter.grad is None for parameter in [*net.parameters(), *chain.parameters()])
    again = thin.thinned([2], [])
    assert all(torch.equal(a, b) for a, b in zip(thin.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: Chain.read([nn.ReLU(), conv(3, 3)]), "a chain begins with a convolution, not with ReLU: leave it out"),
        (lambda: Chain.read([]), "a chain has no convolution: give the modules that hold some, in the order they run"),
        (lambda: Chain.read([conv(3, 3, dilation=2)]), r"has dilation \(2, 2\): only convolutions with 1 are merged"),
        (lambda: Chain.read([conv(3, 3, padding_mode="circular")]), "only convolutions with as many zeros on both"),
        (lambda: Chain.read([conv(3, 3, 2, padding="same")]), "only convolutions with as many zeros on both sides"),
        (lambda: Chain.read([nn.ConvTranspose2d(3, 3, 3)]), "ConvTranspose2d is not merged: only Conv1d, Conv2d, Conv"),
        (lambda: Chain.read([conv(3, 3)], [(0, 2)]), r"shortcut \(0, 2\) is not in a chain of 1 layers: give boundari"),
        (lambda: Chain.read([conv(3, 4)], [(0, 1)]), r"shortcut \(0, 1\) cannot be added as it is: all between must"),
        (lambda: Chain.read([conv(3, 3, 3, 2)], [(0, 1)]), r"shortcut \(0, 1\) cannot be added as it is: all between"),
        (
            lambda: Chain.read([conv(3, 3), nn.MaxPool2d(2), conv(3, 3)]).thinned([2], []),
            "layers 1 to 2 are no segment: a shortcut begins or ends inside, or what must stay lies there; end",
        ),
        (
            lambda: Chain.read([conv(3, 3), conv(3, 3), conv(3, 3)], [(1, 3)]).thinned([2, 3], []),
            "layers 1 to 2 are no segment: a shortcut begins or ends inside",
        ),
        (
            lambda: Chain.read([conv(3, 3), nn.ReLU(), conv(3, 3)]).thinned([2], [1]),
            r"activations are kept at \[1\], where no segment ends: end one there, or leave them out",
        ),
        (
            lambda: Chain.read([conv(3, 3), conv(3, 3)]).thinned([1], []),
            r"segments end at \(1,\): give ascending boundaries from 1 on, the last one 2",
        ),
        (
            lambda: Chain.read([conv(3, 3), nn.BatchNorm2d(3, track_running_stats=False)]).merged(),
            "a BatchNorm2d keeps no running statistics, so it is not linear in evaluation and cannot be folded: give",
        ),
    ],
)
def test_what_cannot_be_merged_is_refused(make: Any, line: str) -> None:
    with pytest.raises(CompressionError, match=line):
        make()


# --- the two programmes


def instance(length: int, rng: np.random.Generator, whole_times: bool = True) -> Tables:
    """Random tables: some stretches cannot be merged, some boundaries have no activation, some must stay."""
    spans = list(itertools.combinations(range(length + 1), 2))
    known = [(i, j) for i, j in spans if j == i + 1 or rng.random() < 0.7]
    draw = (lambda: float(rng.integers(1, 12))) if whole_times else (lambda: float(rng.uniform(0.1, 3)))
    sort = {b: ((0, 1), (0, 1), (0,), (1,))[rng.integers(4)] for b in range(1, length + 1)} | {0: (1,)}
    worth = {(i, j, u, v): float(rng.integers(-6, 7)) for i, j in known for u in sort[i] for v in sort[j]}
    return Tables(length, {span: draw() for span in known}, worth)


def subsets(begin: int, end: int) -> Iterator[tuple[int, ...]]:
    inner = range(begin + 1, end)
    yield from itertools.chain.from_iterable(itertools.combinations(inner, n) for n in range(len(inner) + 1))


def everything(tables: Tables) -> Iterator[tuple[float, float, tuple[int, ...]]]:
    """Value and time of the best way to keep each set of activations."""
    stretch: dict[Any, float] = {}
    for i, j in itertools.combinations(range(tables.length + 1), 2):
        cuts = [(i, *cut, j) for cut in subsets(i, j)]
        pieces = [list(itertools.pairwise(cut)) for cut in cuts]
        stretch[i, j] = min(sum(tables.times.get(piece, math.inf) for piece in parts) for parts in pieces)
        for v in (0, 1):
            stretch[i, j, v] = max(
                sum(tables.values.get((a, b, a == i, v if b == j else 0), -math.inf) for a, b in parts)
                for parts in pieces
            )
    for kept in subsets(0, tables.length):
        for last in (0, 1):
            parts = list(itertools.pairwise((0, *kept, tables.length)))
            value = sum(stretch[i, j, last if j == tables.length else 1] for i, j in parts)
            yield value, sum(stretch[part] for part in parts), (*kept, tables.length)[: len(kept) + last]


def test_the_programmes_find_what_trying_everything_finds() -> None:
    rng = np.random.default_rng(0)
    for number in range(300):
        tables = instance(7, rng)
        found = [row for row in everything(tables) if row[0] > -math.inf]
        budget = float(rng.integers(4, 45)) if number % 10 else math.inf
        within = [(value, -time) for value, time, _ in found if time <= budget]
        if not within:
            with pytest.raises(
                CompressionError, match="nothing keeps a budget of" if found else "no way to keep activations"
            ):
                solve(tables, [budget], step=1.0)
            continue
        (plan,) = solve(tables, [budget], step=1.0)
        assert (plan.value, -plan.time) == max(within)  # ties go to the faster
        assert (plan.value, plan.time, plan.kept) in found
        assert set(plan.kept) <= set(plan.ends) and plan.ends[-1] == 7
        assert sum(tables.times[span] for span in itertools.pairwise((0, *plan.ends))) == plan.time


def test_rounding_never_exceeds_a_budget_and_more_time_is_never_worse() -> None:
    rng = np.random.default_rng(1)
    for _ in range(40):
        tables = instance(6, rng, whole_times=False)
        fastest = min(time for value, time, _ in everything(tables) if value > -math.inf) if possible(tables) else 0.0
        if not fastest:
            continue
        budgets = [*np.linspace(1.3 * fastest + 6 * 0.05, 4 * fastest, 12), math.inf]
        plans = solve(tables, budgets, step=0.05)
        assert all(plan.time <= budget for plan, budget in zip(plans, budgets, strict=True))
        worth = [plan.value for plan in plans]
        assert worth == sorted(worth)
        assert worth[-1] == max(value for value, _, _ in everything(tables))


def possible(tables: Tables) -> bool:
    return any(value > -math.inf for value, _, _ in everything(tables))


def additive(length: int, worth: dict[int, float]) -> Tables:
    """Leaving out an activation costs what it is worth; merging is free of charge."""
    spans = list(itertools.combinations(range(length + 1), 2))

    def value(i: int, j: int, u: int, v: int) -> float:
        halves = (0.5 * worth.get(i, 0.0)) * (1 - u) + (0.5 * worth.get(j, 0.0)) * (1 - v)
        return -halves - sum(worth.get(b, 0.0) for b in range(i + 1, j))

    ends = {b: (0, 1) for b in range(1, length)} | {0: (1,), length: (1,)}
    known = {(i, j, u, v): value(i, j, u, v) for i, j in spans for u in ends[i] for v in ends[j]}
    return Tables(length, dict.fromkeys(spans, 1.0), known)


def test_without_a_budget_what_has_value_stays_and_the_rest_is_merged() -> None:
    tables = additive(6, {1: 0.3, 2: 0.0, 3: 0.125, 4: 0.0, 5: 0.5})
    assert solve(tables, [math.inf]) == [Plan((1, 3, 5, 6), (1, 3, 5, 6), 0.0, 4.0)]
    assert [plan.kept for plan in solve(tables, [3.0, 2.0, 1.0], step=0.5)] == [(1, 5, 6), (5, 6), (6,)]


def test_two_convolutions_may_be_faster_than_the_one_they_make() -> None:
    tables = Tables(
        2, {(0, 1): 1.0, (1, 2): 1.0, (0, 2): 5.0}, {(0, 2, 1, 0): 3.0, (0, 1, 1, 1): 0.0, (1, 2, 1, 0): 1.0}
    )
    assert solve(tables, [2.0]) == [Plan((), (1, 2), 3.0, 2.0)]


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: Tables(2, {(0, 1): 1.0}, {}), r"a chain of 2 layers has no times for \[\(1, 2\)\]: measure each"),
        (lambda: Tables(1, {(0, 1): -1.0}, {}), r"layers \(0, 1\) take -1.0: give times that are finite and not neg"),
        (lambda: Tables(1, {(0, 1): 1.0}, {(0, 1, 1, 0): math.nan}), r"case \(0, 1, 1, 0\) is worth nan: give a num"),
        (lambda: solve(additive(3, {}), [1.0], step=0.0), "step = 0.0: time is counted in steps above 0"),
        (
            lambda: solve(additive(3, {}), [1.0], step=1e-9),
            "step = 1e-09: that makes 3,000,000,000 steps, and 10,000,0",
        ),
        (lambda: solve(Tables(1, {(0, 1): 1.0}, {}), [1.0]), "no way to keep activations has a value: give values of"),
        (lambda: solve(additive(3, {}), [math.nan]), "budget = nan: give a time, or infinity for none"),
        (
            lambda: solve(additive(3, {}), [0.5], step=0.25),
            "nothing keeps a budget of 0.5: the fastest there is takes 1, and times are rounded up to steps of",
        ),
        (lambda: solve(additive(3, {}), [-1.0]), "nothing keeps a budget of -1: the fastest there is takes 1, and"),
    ],
)
def test_tables_and_budgets_that_cannot_be_are_refused(make: Any, line: str) -> None:
    with pytest.raises(CompressionError, match=line):
        make()


# --- a network from end to end


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(
                conv(1, 4),
                nn.BatchNorm2d(4),
                nn.ReLU(),
                conv(4, 4),
                nn.ReLU(),
                conv(4, 4),
                nn.BatchNorm2d(4),
                nn.ReLU(),
            ),
            *(nn.MaxPool2d(2), conv(4, 6), nn.ReLU(), conv(6, 6), nn.ReLU()),
        )
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 2))


def counted(modules: Sequence[nn.Module], x: Tensor) -> list[float]:
    """Latencies for tests: multiply-accumulates, and a price for each convolution."""
    convolutions = [module[0] for module in modules]  # type: ignore[index]
    return [float(one(x)[0, 0].numel() * one.weight.numel()) + 2000.0 for one in convolutions]


def test_a_network_is_compressed_trained_on_and_merged() -> None:
    net = lively(Net())
    chain = Chain.read(net.body)  # type: ignore[arg-type]
    x = torch.randn(4, 1, 8, 8).double()
    goal = net.head(net.body(x)).detach()  # type: ignore[operator]
    asked: list[Chain] = []

    def score(thin: Chain) -> float:
        """How near the outputs are to what they were."""
        asked.append(thin)
        with torch.no_grad():
            return -float((net.head(thin(x)) - goal).square().mean())  # type: ignore[operator]

    known = times(chain, x, counted)
    assert set(known) == {*itertools.combinations(range(4), 2), (3, 4), (4, 5), (3, 5)}  # nothing across the pooling
    slow = sum(known[i, i + 1] for i in range(5))
    full, half, least = compress(chain, x, counted, score, [math.inf, 0.8 * slow, 0.7 * slow])
    assert (full.plan.kept, full.plan.ends) == ((1, 2, 3, 4, 5), (1, 2, 3, 4, 5))
    assert full.plan.time == pytest.approx(slow)
    assert 0.0 == full.plan.value > half.plan.value > least.plan.value
    assert {3} <= set(half.plan.kept) and len(least.plan.ends) < 5
    assert half.plan.time <= 0.8 * slow and least.plan.time <= 0.7 * slow
    network = least.network.train()
    before = score(network.eval())
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    for _ in range(20):
        optimizer.zero_grad()
        loss = (net.head(network.train()(x)) - goal).square().mean()  # type: ignore[operator]
        loss.backward()
        optimizer.step()
    short = network.eval().merged()
    assert before != score(network)
    assert sum(isinstance(module, nn.Conv2d) for module in short.modules()) == len(least.plan.ends)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in short.modules())
    torch.testing.assert_close(short(x), network(x), **EXACT)


class Named(nn.Module):
    """Convolutions that are no sequence, one activation used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.second, self.third = conv(1, 3), nn.BatchNorm2d(3), conv(3, 3), conv(3, 3)
        self.relu, self.last = nn.ReLU(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.third(self.second(self.relu(self.norm(self.first(x)))))
        z: Tensor = self.last(y) + x
        return z


NAMES = ("first", "norm", "relu", "second", "third", "last")


def test_modules_of_a_network_are_found_and_replaced_by_name() -> None:
    net = lively(Named())
    x = torch.randn(2, 1, 6, 6).double()
    chain = chain_of(net, NAMES, x)
    thin = chain.thinned([3], [3])
    short = placed(net, NAMES, thin.merged())
    assert short.get_submodule("first")[0].kernel_size == (7, 7)  # type: ignore[index]
    torch.testing.assert_close(short(x), thin(x) + x, **EXACT)
    assert isinstance(net.first, nn.Conv2d)


@pytest.mark.parametrize("names", [("first", "norm", "second"), ("second", "third", "relu"), ("third", "second")])
def test_names_of_no_chain_are_refused(names: Any) -> None:
    net = lively(Named())
    with pytest.raises(
        CompressionError, match="do not run one behind the other in Named, for outputs differ: name all modul"
    ):
        chain_of(net, names, torch.randn(2, 1, 6, 6).double())


def test_a_name_of_nothing_is_refused() -> None:
    with pytest.raises(CompressionError, match=r"Named has no module 'fourth': see its named_modules\(\)"):
        chain_of(Named(), ("first", "fourth"), torch.randn(2, 1, 6, 6))


def test_a_case_is_scored_once_and_priced() -> None:
    chain = Chain.read([conv(1, 2), nn.ReLU(), conv(2, 2), conv(2, 1), nn.ReLU()])
    seen: list[Any] = []

    def score(thin: Chain) -> float:
        seen.append((thin.ends, thin.kept))
        return len([b for b in thin.kept if thin.layers[b - 1].after]) / 2

    spans = list(times(chain, torch.randn(1, 1, 4, 4), lambda modules, x: [1.0] * len(modules)))
    found = values(chain, spans, score, alpha=1.5)
    assert len(seen) == len(set(seen))
    assert found[0, 1, 1, 1] == 1.0 - 1.5
    assert found[0, 1, 1, 0] == found[0, 2, 1, 0] == 0.5 - 1.5
    assert found[1, 3, 0, 0] == -1.5
    assert (1, 2, 1, 1) not in found  # there is none behind the second layer
