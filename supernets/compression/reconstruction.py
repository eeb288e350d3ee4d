"""Fit the layers of a network, extracted from a trained one, to the outputs of the trained layers on calibration data.

Removed units take their share of every sum with them. The method visits the layers in execution order and refits each
by least squares: given the inputs that the network itself then produces, the layer's outputs should match those of the
parent's layer at the units that the network keeps. This is the reconstruction of channel pruning (He, Zhang, Sun, ICCV
2017, arXiv:1707.06168, section 3.1) and of ThiNet (Luo, Wu, Lin, ICCV 2017, arXiv:1707.06342, section 3.2), without
their selection of channels, for every kind of layer that multiplies by a matrix.
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
"""Default number of calibration batches; a quarter of them is held out to judge the fit."""
RIDGE = 1e-3
"""Ridge penalty on changes to a layer's weights, relative to the mean square of its inputs."""
OTHER_ROWS = "it runs on other inputs than in the parent"
Work = Callable[[], Any]
_LEAST = 1e-300
_AT_ONCE = 64  # examples whose convolution patches are in memory together


@dataclass(frozen=True)
class Fitted:
    """The result for one layer: squared errors on held-out batches, relative to the squared target."""

    name: str
    summed: bool
    """Whether the target is the sum to which the output is added; otherwise it is the output itself."""
    before: float
    after: float
    """The error with the fitted weights, which stay only if it is below `before`."""

    @property
    def kept(self) -> bool:
        return self.after < self.before


@dataclass(frozen=True)
class Reconstructed:
    """The results for all layers of a network."""

    layers: tuple[Fitted, ...]
    left: tuple[tuple[str, str], ...]
    """Unchanged layers, and the reason."""

    def table(self) -> str:
        """Return one line per layer, then the unchanged layers."""
        kept = sum(one.kept for one in self.layers)
        lines = [f"reconstructed: {kept} of {len(self.layers)} layers, by their distance from what the parent's give"]
        for one in self.layers:
            what = (" in its sum" if one.summed else "") + ("" if one.kept else ", left as it was")
            lines.append(f"  {one.name}: {one.before:.4f} -> {one.after:.4f}{what}")
        return "\n".join([*lines, *(f"  left {name}: {why}" for name, why in self.left)])


def reconstructed(
    supernet: Supernet, arch: Architecture, task: Task, batches: int = NUM_BATCHES, seed: int = 0
) -> tuple[nn.Module, Reconstructed]:
    """Return the network of an architecture, its layers fitted to those of the largest network, and the results.

    Batch norm keeps the statistics of the largest network; calibrate it afterwards.

    Args:
        batches: number of training batches of the task, to fit and to judge the fit.

    Raises:
        CompressionError: see `reconstruct`.
    """
    network, parent = supernet.extract(arch), supernet.extract(supernet.space.largest())
    data = [to_device(task.batch(number, seed), supernet.device) for number in range(batches)]
    return network, reconstruct(network, parent, data, task, kept_units(supernet, arch, network))


def kept_units(supernet: Supernet, arch: Architecture, network: nn.Module) -> dict[str, Tensor]:
    """Return which outputs of the largest network's layer a network keeps, by name of each matrix layer."""
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
    """Fit the layers of a network, in place, to the parent's layers of the same name. Both go to evaluation mode.

    Only the weights and biases of layers that multiply by a matrix change; tied weights, computed weights and grouped
    convolutions stay. A layer keeps its new weights if they reduce its error on the last quarter of the batches, which
    the fit does not use. Calibrate batch norm afterwards.

    Args:
        batches: at least two batches of the task, on the network's device.
        kept: the parent's units that each layer keeps, by the layer's name; a missing entry means the leading ones.
        ridge: see `RIDGE`.

    Raises:
        CompressionError: fewer than two batches, a ridge below 0, or a layer computes non-finite values.
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
    """Return the names of layers that can be fitted, and the other layers with the reason."""
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
    """Return the layers to fit, in order, each with whether its output is only added to something, and the others.

    A layer to fit runs once in every pass, on the same number of rows in both networks. The others come with a reason.

    Raises:
        CompressionError: a layer computes non-finite values, or no layer reads any data.
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
    """Observations of one pass."""

    order: list[tuple[str, bool]]
    otherwise: set[str]
    rows: dict[str, tuple[int, ...]]
    """The shape of each layer's output without the feature axis."""


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
    """Fit the weights of one layer; restore the old ones if the held-out error does not fall.

    Let X be the inputs, one row per output position with a column of ones for the bias, and R the residual between the
    target and the layer's outputs. The change D of the weights solves (X'X + ridge m I) D = X'R, where m is the mean
    of the diagonal of X'X: the minimum of |XD - R|^2 + ridge m |D|^2.
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
    """The passes of both networks on one batch, stopped after the same layer."""

    own: Stop
    theirs: Stop

    def beyond(self, layer: nn.Module, units: Tensor | None) -> Tensor:
        """Return the residual: the parent's outputs at the kept units minus the layer's outputs.

        Where the output is added to something, the target is the parent's sum, so that earlier errors do not
        accumulate.
        """
        axis = reads(layer)
        assert axis is not None
        index = torch.arange(self.own.made.shape[axis]) if units is None else units
        index = index.to(self.theirs.made.device)
        found = self.theirs.made.index_select(axis, index) - self.own.made
        if self.own.rest is None or self.theirs.rest is None:
            return found
        return found + (
            self.theirs.rest.index_select(axis, index) - self.own.rest
        )  # this difference is 0 where nothing was removed


def _solved(products: Tensor, sums: Tensor, ridge: float) -> Tensor:
    """Return the solution of (X'X + ridge m I) D = X'R, the one of least norm if there are several."""
    mean = products.diagonal().mean()
    if not float(mean) > 0:
        return torch.zeros_like(sums)
    products.diagonal().add_(ridge * mean)
    factor, fault = torch.linalg.cholesky_ex(products)
    if int(fault) == 0 and ridge > 0:
        return torch.cholesky_solve(sums, factor)
    # gelsd handles any rank but runs only on the CPU
    solution: Tensor = torch.linalg.lstsq(products.cpu(), sums.cpu(), driver="gelsd").solution
    return solution.to(sums.device)


def _inputs(layer: nn.Module, given: Tensor) -> Tensor:
    """Return the terms of each output position's sum, (rows x inputs), with a column of ones if there is a bias."""
    x = _patches(layer, given) if isinstance(layer, nn.modules.conv._ConvNd) else given
    x = x.flatten(0, -2)
    return x if layer._parameters.get("bias") is None else torch.cat([x, x.new_ones(len(x), 1)], dim=1)


def _patches(layer: nn.modules.conv._ConvNd, given: Tensor) -> Tensor:
    """Return the patches (N x positions x inputs) of a convolution over (N x channels x extents)."""
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
    """Add a change (inputs x outputs) to a layer's weights and bias."""
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
