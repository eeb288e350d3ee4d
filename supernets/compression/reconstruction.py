"""Layers of a network cut out of a trained one, fitted to what the trained one's layers compute on calibration data.

Units that a network lacks leave their share of every sum behind. The layers are walked in the order in which they run:
each gets the weights for which, from what the network itself gives it by then, its outputs come nearest to those of the
parent's layer at the units that the network keeps, in least squares. That is the reconstruction of channel pruning (He,
Zhang, Sun, ICCV 2017, arXiv:1707.06168, section 3.1) and of ThiNet (Luo, Wu, Lin, ICCV 2017, arXiv:1707.06342, section
3.2), without their choice of channels, over layers of any kind that multiply by a matrix.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import chain
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces import Architecture
from supernets.compression.importance import reads
from supernets.compression.side_by_side import Pass, Stop, watched
from supernets.errors import CompressionError
from supernets.joined import Joined, joined
from supernets.layout import Shape
from supernets.skeleton import build_skeleton
from supernets.supernet import Supernet
from supernets.tasks import Task, to_device
from supernets.views import tensors

NUM_BATCHES = 16
"""For calibration, of which a quarter judges."""
RIDGE = 1e-3
"""What it costs to leave the weights that a layer has, as a share of the mean square of its inputs."""
OTHER_ROWS = "it runs on other inputs than in the parent"
Work = Callable[[], Any]
_LEAST = 1e-300
_AT_ONCE = 64  # examples of which the patches of a convolution are in memory together


@dataclass(frozen=True)
class Fitted:
    """One layer: the squared distance from what it should give, over that of the latter from 0, on held-out batches."""

    name: str
    summed: bool
    """Whether what it should give is told by the sum in which its output goes, else by its output."""
    before: float
    after: float
    """With the fitted weights; they are kept where it is less than before."""

    @property
    def kept(self) -> bool:
        return self.after < self.before


@dataclass(frozen=True)
class Reconstructed:
    """What was done to the layers of a network."""

    layers: tuple[Fitted, ...]
    left: tuple[tuple[str, str], ...]
    """Layers that stay as they were, and why."""

    def table(self) -> str:
        """One line a layer, then what was left alone."""
        kept = sum(one.kept for one in self.layers)
        lines = [f"reconstructed: {kept} of {len(self.layers)} layers, by their distance from what the parent's give"]
        for one in self.layers:
            what = (" in its sum" if one.summed else "") + ("" if one.kept else ", left as it was")
            lines.append(f"  {one.name}: {one.before:.4f} -> {one.after:.4f}{what}")
        return "\n".join([*lines, *(f"  left {name}: {why}" for name, why in self.left)])


def reconstructed(
    supernet: Supernet, arch: Architecture, task: Task, batches: int = NUM_BATCHES, seed: int = 0
) -> tuple[nn.Module, Reconstructed]:
    """The network of an architecture, its layers fitted to those of the largest network, with what was done to them.

    Its batch norm keeps the statistics of the largest network, which want to be calibrated.

    Args:
        batches: training batches of the task to fit and to judge by.

    Raises:
        CompressionError: see `reconstruct`.
    """
    network, parent = supernet.extract(arch), supernet.extract(supernet.space.largest())
    data = [to_device(task.batch(number, seed), supernet.device) for number in range(batches)]
    return network, reconstruct(network, parent, data, task, kept_units(supernet, arch, network))


def kept_units(supernet: Supernet, arch: Architecture, network: nn.Module) -> dict[str, Tensor]:
    """By the name of each layer that multiplies by a matrix, which of the largest one's outputs a network keeps."""
    survey = supernet.survey
    found = {}
    skeleton, largest = (build_skeleton(supernet.plan.build, one) for one in (arch, supernet.space.largest()))
    extents = survey.extents(skeleton, arch)
    whole = {name: join.parts for name, join, _ in joined(largest)}
    apart = {name: (join.parts, names) for name, join, names in joined(skeleton)}

    def kept(name: str, shape: Shape) -> Tensor:
        out = survey.ends[name][1]
        assert out is not None
        return survey.axes[name].kept(out, extents.get(name, shape), survey.shapes[name])

    for path, layer in network.named_modules():
        name = f"{path}.weight".lstrip(".")
        if reads(layer) is not None and name in survey.shapes:
            found[path] = kept(name, tuple(layer.weight.shape))
        elif name in apart:
            parts, names = apart[name]
            shapes = [tuple(skeleton.get_parameter(one).shape) for one in names]
            rows = Joined(whole[name].of_rows).right_inverse(torch.arange(sum(whole[name].sizes)))
            left = [one[kept(part, shape)] for one, part, shape in zip(rows, names, shapes, strict=True)]
            found[path] = Joined(parts.of_rows)(*left)
    return found


def reconstruct(
    network: nn.Module,
    parent: nn.Module,
    batches: Sequence[Any],
    task: Task,
    kept: Mapping[str, Tensor] | None = None,
    ridge: float = RIDGE,
) -> Reconstructed:
    """Fits the layers of a network to those of the same name of its parent, in place; in evaluation mode.

    Weights and biases of layers that multiply by a matrix change, and nothing else: tied weights, computed ones and
    convolutions by groups are left as they are. A layer's new weights are kept where they bring it nearer to the parent
    on the last quarter of the batches, which they are not fitted to. Of batch norm, the statistics want to be
    calibrated afterwards.

    Args:
        batches: of the task, on its device; at least two.
        kept: the parent's units that each layer keeps, by its name; where there is none, the leading ones.
        ridge: see `RIDGE`.

    Raises:
        CompressionError: too few batches, a ridge below 0, or layers that compute what is no finite number.
    """
    if len(batches) < 2:
        raise CompressionError(f"batches = {len(batches)}: give 2 or more, one to fit and one to judge by")
    if not 0 <= ridge < float("inf"):
        raise CompressionError(f"ridge = {ridge!r}: it must be a number of 0 or more, 1e-3 say")
    network.eval()
    parent.eval()
    works = [[partial(task.outputs, own, batch) for batch in batches] for own in (network, parent)]
    able, left = _layers(network, parent)
    walk, missed = _walk((network, parent), able, works)
    judged = max(1, len(batches) // 4)
    fitted: list[Fitted] = []
    with ExitStack() as stack:
        for own in (network, parent):
            stack.enter_context(watched(own, walk))
        passes = [[Pass(work, [name for name, summed in walk.items() if summed]) for work in own] for own in works]
        for one in chain(*passes):
            stack.callback(one.leave)
            one.advance()
        for name in walk:
            pairs = [_Pair(own.at, theirs.at) for own, theirs in zip(*passes, strict=True) if _at(name, own, theirs)]
            anew = len(pairs) == len(batches)
            if anew:
                units = None if kept is None else kept.get(name)
                fitted.append(_fit(name, network.get_submodule(name), pairs, units, judged, ridge))
                anew = fitted[-1].kept
            else:
                missed.append((name, OTHER_ROWS))
            for one in chain(*passes):
                if one.at is not None and one.at.name == name:
                    one.advance(anew=anew and one in passes[0])
    return Reconstructed(tuple(fitted), tuple(left + missed))


# --- which layers -------------------------------------------------------------------------------------------------


def _layers(network: nn.Module, parent: nn.Module) -> tuple[list[str], list[tuple[str, str]]]:
    """The names of layers that can be fitted, and of others why not."""
    owned = Counter(id(tensor) for tensor in tensors(network).values())
    theirs = dict(parent.named_modules())
    names, left = [], []
    for name, layer in network.named_modules():
        if isinstance(layer, nn.modules.conv._ConvNd) and reads(layer) is None:
            left.append((name, "it is a convolution by groups, or transposed"))
        if reads(layer) is None:
            continue
        own = [
            tensor for tensor in (layer._parameters.get("weight"), layer._parameters.get("bias")) if tensor is not None
        ]
        if layer._parameters.get("weight") is None:
            left.append((name, "its weight is computed"))
        elif any(owned[id(tensor)] > 1 for tensor in own):
            left.append((name, "its weight is tied to another"))
        elif reads(theirs.get(name, nn.Identity())) is None:
            left.append((name, "the parent has no such layer"))
        else:
            names.append(name)
    return names, left


def _walk(
    networks: Sequence[nn.Module], names: Sequence[str], works: Sequence[Sequence[Work]]
) -> tuple[dict[str, bool], list[tuple[str, str]]]:
    """Of these layers those that run once in every pass, on as many rows in both networks, in the order in which they
    are fitted, with whether their outputs are only added to something; and of others why not.

    Raises:
        CompressionError: one computes what is no finite number.
    """
    runs = [[_looked(own, names, work) for work in those] for own, those in zip(networks, works, strict=True)]
    every = list(chain(*runs))
    if names and not any(prod(shape) for run in every for shape in run.rows.values()):
        raise CompressionError("no layer reads anything of the calibration batches: see that the data is not empty")
    summed = {
        name for name in names if all(run.order.count((name, True)) == 1 and name not in run.otherwise for run in every)
    }
    orders = [[name for name, at_sum in run.order if at_sum == (name in summed)] for run in every]
    found, left = [], []
    for name in names:
        if any(order.count(name) != 1 for order in orders):
            left.append((name, "it does not run once in every pass"))
        elif len({order.index(name) for order in orders}) > 1 or any(
            own.rows[name] != theirs.rows[name] for own, theirs in zip(*runs, strict=True)
        ):
            left.append((name, OTHER_ROWS))
        else:
            found.append(name)
    return {name: name in summed for name in orders[0] if name in found}, left


@dataclass
class _Run:
    """What a pass has shown."""

    order: list[tuple[str, bool]]
    otherwise: set[str]
    rows: dict[str, tuple[int, ...]]
    """The shape of each layer's output without its features."""


def _looked(network: nn.Module, names: Sequence[str], work: Work) -> _Run:
    rows: dict[str, tuple[int, ...]] = {}
    with watched(network, names):
        own = Pass(work)
        while (stop := own.advance()) is not None:
            _check(stop.given, stop.name)
            _check(stop.made, stop.name)
            rows[stop.name] = tuple(_features_last(network.get_submodule(stop.name), stop.made).shape[:-1])
    return _Run(own.uses.order, own.uses.otherwise, rows)


def _check(tensor: Tensor, name: str) -> None:
    if not bool(torch.isfinite(tensor).all()):
        raise CompressionError(
            f"what {name} computes on the calibration batches is no finite number: see that weights and data are"
        )


# --- one layer ----------------------------------------------------------------------------------------------------


def _fit(
    name: str, layer: nn.Module, pairs: Sequence[_Pair], units: Tensor | None, judged: int, ridge: float
) -> Fitted:
    """Gives a layer the weights that fit, or leaves it as it is.

    With X the inputs, a row an output position and a column of ones for the bias, and R what is wanted beyond the
    layer's outputs, the change D of its weights solves (X'X + ridge m I) D = X'R, where m is the mean of the diagonal
    of X'X: the minimum of |XD - R|^2 + ridge m |D|^2.
    """
    products = sums = torch.zeros((), dtype=torch.float64)
    for pair in pairs[:-judged]:
        rest = pair.beyond(layer, units)
        for given, beyond in zip(*(torch.split(one, _AT_ONCE) for one in (pair.own.given, rest)), strict=True):
            x, r = _inputs(layer, given).double(), _features_last(layer, beyond).flatten(0, -2).double()
            products, sums = products + x.T @ x, sums + x.T @ r
    held = pairs[-judged:]

    def distance(made: Sequence[Tensor]) -> float:
        apart = total = 0.0
        for y, pair in zip(made, held, strict=True):
            own, rest = pair.own.made.double(), pair.beyond(layer, units).double()
            apart += float((rest - (y - own)).square().sum())
            total += float((rest + own).square().sum())
        return apart / max(total, _LEAST)

    before = distance([pair.own.made for pair in held])
    old = {key: value.detach().clone() for key, value in layer.named_parameters()}
    _add(layer, _solved(products, sums, ridge))
    with torch.no_grad():
        after = distance([layer.forward(pair.own.given) for pair in held])
        if not after < before:
            for key, value in layer.named_parameters():
                value.copy_(old[key])
    return Fitted(name, held[0].own.rest is not None, before, after)


@dataclass(frozen=True)
class _Pair:
    """Passes of both networks on one batch, behind the same layer."""

    own: Stop
    theirs: Stop

    def beyond(self, layer: nn.Module, units: Tensor | None) -> Tensor:
        """What the layer should give beyond what it gives: the parent's outputs at the units that it has; where they
        are added to something, that by which the sum becomes the parent's, so that errors made before do not add up."""
        axis = reads(layer)
        assert axis is not None
        index = torch.arange(self.own.made.shape[axis]) if units is None else units
        index = index.to(self.theirs.made.device)
        found = self.theirs.made.index_select(axis, index) - self.own.made
        if self.own.rest is None or self.theirs.rest is None:
            return found
        return found + (self.theirs.rest.index_select(axis, index) - self.own.rest)  # 0 where nothing is cut


def _solved(products: Tensor, sums: Tensor, ridge: float) -> Tensor:
    """Of (X'X + ridge m I) D = X'R the solution, the least one where there are several."""
    mean = products.diagonal().mean()
    if not float(mean) > 0:
        return torch.zeros_like(sums)
    products.diagonal().add_(ridge * mean)
    factor, fault = torch.linalg.cholesky_ex(products)
    if int(fault) == 0 and ridge > 0:
        return torch.cholesky_solve(sums, factor)
    # gelsd takes any rank and runs on a CPU alone
    solution: Tensor = torch.linalg.lstsq(products.cpu(), sums.cpu(), driver="gelsd").solution
    return solution.to(sums.device)


def _inputs(layer: nn.Module, given: Tensor) -> Tensor:
    """(rows x inputs): what each output position is a sum over, with ones where there is a bias."""
    x = _patches(layer, given) if isinstance(layer, nn.modules.conv._ConvNd) else given
    x = x.flatten(0, -2)
    return x if layer._parameters.get("bias") is None else torch.cat([x, x.new_ones(len(x), 1)], dim=1)


def _patches(layer: nn.modules.conv._ConvNd, given: Tensor) -> Tensor:
    """(N x positions x inputs) of a convolution over (N x channels x extents)."""
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    x = F.pad(given, layer._reversed_padding_repeated_twice, mode=mode)
    for axis, (size, stride, dilation) in enumerate(
        zip(layer.kernel_size, layer.stride, layer.dilation, strict=True), 2
    ):
        x = x.unfold(axis, (size - 1) * dilation + 1, stride)[..., ::dilation]
    extents = len(layer.kernel_size)
    found: Tensor = x.movedim(1, extents + 1).flatten(extents + 1).flatten(1, extents)
    return found


@torch.no_grad()
def _add(layer: nn.Module, change: Tensor) -> None:
    """Adds to a layer's weights and bias a change (inputs x outputs)."""
    weight, bias = layer._parameters["weight"], layer._parameters.get("bias")
    assert weight is not None
    if bias is not None:
        bias.add_(change[-1].to(bias.dtype))
        change = change[:-1]
    if isinstance(layer, nn.Linear | nn.modules.conv._ConvNd):
        change = change.T
    weight.add_(change.reshape(weight.shape).to(weight.dtype))


def _features_last(layer: nn.Module, made: Tensor) -> Tensor:
    axis = reads(layer)
    assert axis is not None
    return made.movedim(axis, -1)


def _at(name: str, *passes: Pass) -> bool:
    return all(one.at is not None and one.at.name == name for one in passes)
