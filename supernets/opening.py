"""Load pretrained weights into a supernet, with a report on every tensor.

Weights may use the names of other libraries. A tied parameter is one tensor with several names, of which the store
keeps the first; a base model and the same model with a head differ by a prefix; every network builds some buffers
itself. The code reads all this from the modules that `build` returns and never guesses from a family's name.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor, nn

from supernets.errors import ShapeError, SupernetError
from supernets.joined import Joined, joined
from supernets.layout import Shape
from supernets.parametrized import Spectral, deviation, orthogonal_bases, spectral_norms
from supernets.skeleton import Build, build_skeleton
from supernets.store import Store
from supernets.survey import Survey
from supernets.weight_files import Source, Weights, source

_NARROWER = {torch.float64: 0, torch.float32: 1, torch.float16: 2, torch.bfloat16: 2}
"""Dtypes of unquantised weights, ranked from fine to coarse."""
CONVERGED = 1e-2
"""Largest relative error of the spectral norm that a parent's singular vectors give for its weight."""


@dataclass(frozen=True)
class Opened:
    """A report on loaded pretrained weights."""

    label: str
    """The source of the weights: a class, a path, or "the state dict"."""
    used: tuple[str, ...]
    """Tensors of the supernet with pretrained values, under the supernet's names."""
    initial: tuple[str, ...]
    """Tensors of the supernet that keep their initial values."""
    unused: tuple[str, ...]
    """Given names for which the supernet has no tensor."""
    tied: Mapping[str, str]
    """Given names of tied parameters, with the name under which the supernet stores each."""
    rebuilt: tuple[str, ...]
    """Given buffers that every network builds itself, equal to those of the largest network."""
    norms: Mapping[str, float]
    """Weights with a spectral norm, with the relative error of the norm by the given singular vectors."""
    cast: Mapping[str, str]
    """Names whose dtype was converted, with the conversion: "bfloat16 to float32"."""
    prefix: str
    """The change to given names: "+bert." was added, "-bert." was removed, or ""."""

    def summary(self) -> str:
        """Return a line of counts."""
        counts = {"used": self.used, "initial": self.initial, "unused": self.unused, "tied": self.tied}
        counts |= {"rebuilt": self.rebuilt, "converted": self.cast}
        prefix = f"; prefix {self.prefix}" if self.prefix else ""
        return f"opened {self.label}: {', '.join(f'{len(names)} {word}' for word, names in counts.items())}{prefix}"

    def table(self) -> str:
        """Return the summary, then lines on all names that were not simply used."""
        lines = [f"not used         {name}" for name in self.unused]
        lines += [f"initial values   {name}" for name in self.initial]
        lines += [f"tied             {name} is {own}" for name, own in self.tied.items()]
        lines += [f"built anew       {name}, equal" for name in self.rebuilt]
        lines += [f"norm found anew  {name}, {share:.1e} from the parent's" for name, share in self.norms.items()]
        kinds = Counter(self.cast.values())
        lines += [f"converted        {number} tensors, {kind}" for kind, number in kinds.items()]
        return "\n".join([self.summary(), *lines])


def open_into(store: Store, surveyed: Survey, build: Build, weights: Weights) -> Opened:
    """Copy pretrained values into a store, and return a report.

    Args:
        weights: a state dict, a module, or the path of safetensors. The names may include tied parameters, the prefix
            of a base model, and buffers that networks build themselves.

    Raises:
        WeightsError: the weights cannot be read.
        ShapeError: no name is known, a shape differs, or the largest architecture lacks one of the layers or sizes.
        SupernetError: values of one tied parameter differ, a buffer differs from the built one, singular vectors do not
            belong to their weight, a parameter is not finite, a dtype is quantised, two names become one, or two
            prefixes fit equally well.
    """
    given = source(weights)
    known = _Known.of(store, surveyed, build)
    prefix = _prefix(given.names, known.names)
    targets = {name: _renamed(name, prefix, known.names) for name in given.names}
    _check_matched(given, targets, known)
    filling = _Filling(store, surveyed, known)
    with torch.no_grad():
        for name, tensor in given.read():
            filling.take(name, targets[name], tensor)
    return Opened(
        given.label,
        tuple(own for own in known.stored if own in filling.used),
        tuple(own for own in known.stored if own not in filling.used),
        tuple(name for name in given.names if targets[name] not in known.names),
        filling.tied,
        tuple(filling.rebuilt),
        filling.norms(),
        filling.cast,
        prefix,
    )


def missing_names(weights: Weights, module: nn.Module) -> tuple[str, ...]:
    """Return the parameters of a module for which the weights have no value, under any name of a tied parameter.

    Raises:
        WeightsError: the weights cannot be read.
    """
    aliases = dict(_aliases(module))
    own = frozenset(name for name, _ in module.named_parameters(remove_duplicate=False))
    given = source(weights).names
    prefix = _prefix(given, own)
    filled = {_renamed(name, prefix, own) for name in given}
    filled |= {aliases[name] for name in filled & aliases.keys()}
    return tuple(name for name, _ in module.named_parameters() if name not in filled)


# --- known names ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Known:
    """The names of a supernet: of stored tensors, their aliases by tying, and buffers that networks build."""

    stored: Mapping[str, Tensor]
    aliases: Mapping[str, str]
    buffers: Mapping[str, Tensor]
    spectral: Mapping[str, Spectral]
    """Spectral norms by the name of their weight."""
    joined: Mapping[str, tuple[Joined, tuple[str, ...]]]
    """Parameters that are stored in parts: the join, whose inverse splits the largest's value, and the parts' names."""
    bases: Mapping[str, str]
    """Names of the bases of orthogonal weights, with the names of these weights."""
    ignored: tuple[str, ...]
    """Patterns of names that the model's class declares as ignored on loading."""

    @classmethod
    def of(cls, store: Store, surveyed: Survey, build: Build) -> _Known:
        stored = dict(store.named_tensors())
        aliases: dict[str, str] = {}
        buffers: dict[str, Tensor] = {}
        spectral: dict[str, Spectral] = {}
        bases: dict[str, str] = {}
        parts: dict[str, tuple[Joined, tuple[str, ...]]] = {}
        ignored: dict[str, None] = {}
        for arch in dict.fromkeys([surveyed.variants[0].arch, *(surveyed.source(n).arch for n in surveyed.shapes)]):
            module = build_skeleton(build, arch)
            aliases = dict(_aliases(module)) | aliases
            buffers = dict(module.named_buffers(remove_duplicate=False)) | buffers
            spectral = {one.weight_name: one for one in spectral_norms(module)} | spectral
            bases |= dict(orthogonal_bases(module))
            parts = {name: (join, names) for name, join, names in joined(module)} | parts
            ignored |= dict.fromkeys(getattr(module, "_keys_to_ignore_on_load_unexpected", None) or ())
        aliases = {name: own for name, own in aliases.items() if own in stored and name not in stored}
        rebuilt = {name: buffer for name, buffer in buffers.items() if name not in stored and name not in aliases}
        return cls(stored, aliases, rebuilt, spectral, parts, bases, tuple(ignored))

    @property
    def names(self) -> frozenset[str]:
        return frozenset((*self.stored, *self.aliases, *self.buffers, *self.joined))

    @cached_property
    def vectors(self) -> frozenset[str]:
        """Names of singular vectors, which each network computes from its own weights."""
        return frozenset(name for one in self.spectral.values() for name in one.names)


def _aliases(module: nn.Module) -> Iterator[tuple[str, str]]:
    """Yield the further names of tensors with several names, each with the first name."""
    for named in (module.named_parameters, module.named_buffers):
        first: dict[int, str] = {}
        for name, tensor in named(remove_duplicate=False):
            own = first.setdefault(id(tensor), name)
            if own != name:
                yield name, own


# --- names of base models and heads -------------------------------------------------------------------------------


def _prefix(given: Iterable[str], own: frozenset[str]) -> str:
    """Return the prefix change that makes most given names known: "+bert." adds, "-bert." removes, "" keeps them.

    Raises:
        SupernetError: several changes fit equally well, and better than none.
    """
    given = frozenset(given)
    found = len(given & own)
    if found in (len(given), len(own)):
        return ""
    counts = Counter(f"+{prefix}" for prefix in _before(own, given)) + Counter(
        f"-{prefix}" for prefix in _before(given, own)
    )
    if not counts or max(counts.values()) <= found:
        return ""
    best = sorted(change for change, number in counts.items() if number == max(counts.values()))
    if len(best) > 1:
        raise SupernetError(
            f"the given names fit the supernet's with {best[0]!r} as well as with {best[1]!r} (+ is put before them, "
            "- taken off): rename them to those of supernet.state_dict()"
        )
    return best[0]


def _before(names: frozenset[str], ends: frozenset[str]) -> Iterator[str]:
    """Yield the prefix of each of `names` that ends in one of `ends`: "bert." for "bert.pooler.bias", "pooler.bias"."""
    for name in names:
        for dot in re.finditer(r"\.", name):
            if name[dot.end() :] in ends:
                yield name[: dot.end()]


def _renamed(name: str, prefix: str, own: frozenset[str]) -> str:
    if prefix.startswith("-"):
        return name.removeprefix(prefix[1:])
    if prefix and prefix[1:] + name in own:
        return prefix[1:] + name
    return name


def _check_matched(given: Source, targets: Mapping[str, str], known: _Known) -> None:
    """Check that some name is known, no two names become one, and no block lacks a place in the supernet."""
    first = next(iter(known.stored))
    if not any(target in known.names for target in targets.values()):
        theirs = f"names {given.names[0]!r}" if given.names else "is empty"
        raise ShapeError(
            f"init {theirs}, and nothing in {given.label} is a name of the supernet ({len(given.names)} names), whose "
            f"tensors are called like {first!r}: rename them, or give the module that has these weights"
        )
    twice = [target for target, number in Counter(targets.values()).items() if number > 1]
    if twice:
        both = [name for name, target in targets.items() if target == twice[0]]
        raise SupernetError(f"{both[0]!r} and {both[1]!r} of {given.label} are both {twice[0]!r} here: leave out one")
    blocks = {re.sub(r"\d+", "*", name): name for name in known.names if re.search(r"\.\d+\.", name)}
    for name, target in targets.items():
        like = blocks.get(re.sub(r"\d+", "*", target))
        ignored = any(re.search(pattern, name) for pattern in known.ignored)
        if target not in known.names and like is not None and not ignored:
            raise ShapeError(
                f"the space cannot hold the parent: {given.label} has {name!r}, but the largest architecture only "
                f"blocks like {like!r}: give the number of blocks the parent's as an option, or leave out these names"
            )


# --- values ---------------------------------------------------------------------------------------------------------


@dataclass
class _Filling:
    """Copies values into a store, and records what happened to each."""

    store: Store
    surveyed: Survey
    known: _Known
    used: dict[str, str] = field(default_factory=dict)
    """The supernet's names with values, each with the given name of its source."""
    tied: dict[str, str] = field(default_factory=dict)
    rebuilt: list[str] = field(default_factory=list)
    vectors: dict[str, Tensor] = field(default_factory=dict)
    """Singular vectors, by the supernet's names."""
    cast: dict[str, str] = field(default_factory=dict)

    def take(self, name: str, target: str, tensor: Tensor) -> None:
        """Process one given tensor, named `target` in the supernet."""
        if target in self.known.joined:
            self._take_parts(name, target, tensor)
            return
        if target in self.known.vectors:
            self.vectors[target] = tensor
            return
        if target in self.known.buffers:
            self._compare(name, tensor, target)
            return
        own = self.known.aliases.get(target, target)
        if own not in self.known.stored:
            return
        if own != target:
            self.tied[name] = own
        stored = self.known.stored[own]
        self._check_shape(name, tensor, own, tuple(stored.shape))
        _check_type(name, tensor, stored)
        _check_finite(name, own, tensor, self.surveyed)
        if own in self.used:
            self._check_equal(name, tensor, self.used[own], stored)
            return
        if tensor.dtype != stored.dtype:
            self.cast[own] = f"{_spelled(tensor)} to {_spelled(stored)}"
        stored.copy_(tensor)
        self.used[own] = name

    def _take_parts(self, name: str, target: str, tensor: Tensor) -> None:
        """Process a tensor that the supernet stores in parts."""
        join, names = self.known.joined[target]
        stored = [self.known.stored[own] for own in names]
        shape = tuple(join(*stored).shape)
        if tuple(tensor.shape) != shape:
            raise ShapeError(
                f"{name} is {tuple(tensor.shape)} in the given weights and {shape} in the supernet; it must be at the "
                "size of the largest architecture, which is the parent's own"
            )
        for own, part in zip(names, join.right_inverse(tensor), strict=True):
            self.take(name, own, part)

    def norms(self) -> dict[str, float]:
        """Return the relative errors of spectral norms by the given singular vectors.

        Raises:
            SupernetError: an error exceeds `CONVERGED`.
        """
        found: dict[str, float] = {}
        for weight, one in self.known.spectral.items():
            if weight not in self.used or any(name not in self.vectors for name in one.names):
                continue
            u, v = (self.vectors[name] for name in one.names)
            stored = self.known.stored[weight]
            found[weight] = share = deviation(one, stored, u, v)
            if not share <= CONVERGED:
                raise SupernetError(
                    f"the singular vectors {one.names[0]} and {one.names[1]} of the given weights are not those of "
                    f"{weight}: the norm they give is {share:.2g} away from its own, which networks use; run the "
                    "parent in training mode until they are, or leave both out of init"
                )
        return found

    def _compare(self, name: str, tensor: Tensor, target: str) -> None:
        built = self.known.buffers[target]
        if tensor.shape == built.shape and _alike(tensor.to(built.device), built):
            self.rebuilt.append(name)
        elif target in self.known.bases:
            weight = self.known.bases[target]
            raise SupernetError(
                f"the orthogonal weight {weight} is turned from {name}, of which smaller networks have no part: open "
                f"it as a plain weight, by torch.nn.utils.parametrize.remove_parametrizations in build and on the "
                "parent"
            )
        else:
            raise SupernetError(
                f"the buffer {name} is not what build gives the largest architecture, where every network builds its "
                "own: give build the settings of the parent, or leave this name out of init"
            )

    def _check_equal(self, name: str, tensor: Tensor, other: str, stored: Tensor) -> None:
        if not torch.equal(tensor.to(stored.device, stored.dtype), stored):
            raise SupernetError(
                f"{other} and {name} differ, but are one tied parameter in what build gives: give one of them, or "
                "untie them in build"
            )

    def _check_shape(self, name: str, tensor: Tensor, own: str, shape: Shape) -> None:
        theirs = tuple(tensor.shape)
        if theirs == shape:
            return
        what = f"{name} is {theirs} in the given weights and {shape} in the supernet"
        pairs = list(enumerate(zip(theirs, shape, strict=True))) if len(theirs) == len(shape) else []
        wider = [axis for axis, (n, full) in pairs if n > full]
        if wider:
            raise ShapeError(
                f"the space cannot hold the parent: {what}: {self._remedy(own, wider[0], theirs[wider[0]])}"
            )
        raise ShapeError(f"{what}; {self._excess(own, theirs, shape)}")

    def _excess(self, own: str, theirs: Shape, shape: Shape) -> str:
        """Return the remedy for a largest architecture that is larger than the parent."""
        axes = {row.name: row.axes for row in self.surveyed.coverage().rows}.get(own, {})
        smaller = [axis for axis, (n, full) in enumerate(zip(theirs, shape, strict=False)) if n < full]
        if len(theirs) == len(shape) and smaller and smaller[0] in axes:
            size = theirs[smaller[0]]
            return (
                f"the largest architecture is larger than the parent: leave out options of "
                f"{' or '.join(axes[smaller[0]])} with which axis {smaller[0]} is longer than {size}"
            )
        return "they must be at the size of the largest architecture, which is the parent's own"

    def _remedy(self, own: str, axis: int, size: int) -> str:
        axes = {row.name: row.axes for row in self.surveyed.coverage().rows}.get(own, {})
        if axis in axes:
            return f"give {' or '.join(axes[axis])} an option with which axis {axis} is {size} long, as the largest"
        return f"no choice moves axis {axis}, so build must make it {size} long"


def _check_type(name: str, tensor: Tensor, stored: Tensor) -> None:
    if stored.is_floating_point() and tensor.dtype not in _NARROWER:
        raise SupernetError(
            f"{name} is {_spelled(tensor)} in the given weights, which holds no plain values of a {_spelled(stored)} "
            "parameter: give weights that are not quantised"
        )


def _check_finite(name: str, own: str, tensor: Tensor, surveyed: Survey) -> None:
    """Raise if a parameter is not finite, which would make every output NaN; buffers, such as masks, may be
    infinite."""
    if own in surveyed.shapes and not bool(torch.isfinite(tensor).all()):
        number = int((~torch.isfinite(tensor)).sum())
        raise SupernetError(
            f"{name} of the given weights holds NaN or infinity in {number} of its {tensor.numel()} places, so every "
            "network gives NaN: give weights of a training that did not diverge"
        )


def _alike(tensor: Tensor, built: Tensor) -> bool:
    """Return whether values are equal, within the precision of the coarser of the two dtypes."""
    if not (tensor.dtype in _NARROWER and built.dtype in _NARROWER):
        return torch.equal(tensor.to(torch.float64), built.to(torch.float64))
    coarse = max(tensor.dtype, built.dtype, key=_NARROWER.__getitem__)
    epsilon = torch.finfo(coarse).eps
    return torch.allclose(tensor.double(), built.double(), rtol=4 * epsilon, atol=0.0, equal_nan=True)


def _spelled(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
