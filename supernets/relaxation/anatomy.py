"""Find which features of a user's model depend on which choices, and build the relaxed skeleton of the model.

The skeleton is the network of the largest architecture, extended by every alternative of each `one_of`. Modules whose
`forward` must compute an expectation become instances of a subclass of their own class: see `modules`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping
from functools import cached_property

from torch import nn

from search_spaces import Architecture, Space
from supernets.layout import Shape
from supernets.parametrized import unmixable
from supernets.relaxation import modules
from supernets.relaxation.buffers import Contents, pad_buffers
from supernets.relaxation.grouped import Regrouped, keeps_groups
from supernets.relaxation.masks import Mask, mask_of
from supernets.relaxation.mixture import Mixture
from supernets.relaxation.tables import Key, RelaxationError, Table, tabulate, walk
from supernets.skeleton import Build, build_skeleton
from supernets.store import Reading
from supernets.structure import OneOf, Stack
from supernets.survey import Survey

Features = Mapping[Key, Hashable]


class Anatomy:
    """The tables, masks and skeletons of one model over one space.

    Raises:
        RelaxationError: the model varies in a way that sizes, `stack` and `one_of` do not express.
    """

    def __init__(self, space: Space, build: Build, surveyed: Survey) -> None:
        self.space = space
        self.build = build
        self.survey = surveyed
        self._looked: dict[Architecture, Features] = {}
        self._extents: dict[Architecture, dict[str, int]] = {}
        self._contents = Contents(tuple(surveyed.buffers))
        self.tables = tabulate(space, self._observe)
        self._check_presence()
        self._check_classes()
        self._check_mixable()
        self.masks = self._masks()

    # --- observation and checks

    def _observe(self, arch: Architecture) -> Features:
        if arch not in self._looked:
            module = build_skeleton(self.build, arch)
            self._looked[arch] = _features(module) | dict(self._contents.features(module))
            self._extents[arch] = {name: buffer.numel() for name, buffer in module.named_buffers()}
        return self._looked[arch]

    def _check_presence(self) -> None:
        """Raise unless a `stack` or a `one_of` explains the absence of every absent parameter."""
        for arch, features in self._looked.items():
            for name in self.survey.shapes:
                there = ("owner", name) in features
                if there != self._placed(name, features):
                    other = next(a for a, f in self._looked.items() if (("owner", name) in f) != there)
                    here, away = (arch, other) if there else (other, arch)
                    raise RelaxationError(
                        f"{name} is there in {here.json()} and not in {away.json()}, and nothing in the model says "
                        "why: build the alternatives with one_of, or the blocks with stack"
                    )

    def _placed(self, name: str, features: Features) -> bool:
        for path in walk(name):
            below = name[len(path) :].lstrip(".").partition(".")[0]
            if ("length", path) in self.tables:
                length = features.get(("length", path), 0)
                if not isinstance(length, int) or int(below) >= length:
                    return False
            elif ("chosen", path) in self.tables and features.get(("chosen", path)) != below:
                return False
        return True

    def _check_classes(self) -> None:
        for (kind, *rest), table in self.tables.items():
            if kind == "class" and len(found := list(dict.fromkeys(table.values))) > 1:
                raise RelaxationError(
                    f"{rest[0]} is a {found[0]} in some networks and a {found[1]} in others: build the alternatives "
                    "with one_of, which gives each a name"
                )

    def _check_mixable(self) -> None:
        for path in unmixable(build_skeleton(self.build, self.space.largest())):
            raise RelaxationError(
                f"{path} is orthogonal by Householder's reflections, whose signs are whole numbers, so it cannot be "
                'relaxed: build it with orthogonal_map="matrix_exp" or "cayley", or search in another way'
            )

    def _masks(self) -> dict[str, Mask | Regrouped]:
        axes: dict[str, dict[int, Table]] = defaultdict(dict)
        for (kind, *rest), table in self.tables.items():
            if kind == "size" and len(set(table.values)) > 1:
                name, axis = rest
                assert isinstance(name, str) and isinstance(axis, int)
                axes[name][axis] = table
        masks: dict[str, Mask | Regrouped] = {}
        for name, tables in axes.items():
            try:
                masks[name] = self._mask(name, tables)
            except ValueError as error:
                raise RelaxationError(
                    f"{name} cannot be relaxed: {error}; let it depend on choices of sizes"
                ) from error
        return masks

    def _mask(self, name: str, tables: dict[int, Table]) -> Mask | Regrouped:
        shape, axes = self.survey.shapes[name], self.survey.axes[name]
        table = self.tables.get(("convolution", name))
        if table is None or keeps_groups(table):
            return mask_of(axes, shape, tables)
        kernel = {axis: table for axis, table in tables.items() if axis > 1}
        return Regrouped(table, shape, mask_of(axes, shape, kernel))

    # --- building

    def reading(self, name: str, leaf: nn.Parameter, mixture: Mixture) -> Reading:
        """Return the source from which the relaxed module reads a parameter."""
        mask = self.masks.get(name)
        if mask is None or name in self._unmasked:
            return leaf

        return modules.Expected(leaf, mask, mixture)

    @cached_property
    def _unmasked(self) -> set[str]:
        """The weights of norms that mix widths; the mixed norm includes their mask."""
        return {
            f"{path}.weight".lstrip(".") for kind, path, *_ in self.tables if kind == "widths" and self._mixes(path)
        }

    @cached_property
    def _row_wise(self) -> dict[str, Mask | Regrouped]:
        """The masks of parameters without fused axes, which networks read as they are stored."""
        return {name: mask for name, mask in self.masks.items() if not self.survey.axes[name].fused}

    def _mixes(self, path: Hashable) -> bool:
        return len(set(self.tables["widths", path].values)) > 1

    def skeleton(self, mixture: Mixture) -> nn.Module:
        """Return a new module with meta parameters at full size that follows a mixture."""
        module = build_skeleton(self.build, self.space.largest())
        self._graft(module)
        self._check_full(module)
        for path, own in list(module.named_modules()):
            if isinstance(own, OneOf) and self._varies("chosen", path):
                modules.mix(own, self.tables["chosen", path], mixture)
            elif self._varies("widths", path):
                modules.mix_widths(own, self.tables["widths", path], mixture)
            elif isinstance(mask := self.masks.get(f"{path}.weight"), Regrouped):
                mask.widen(own)
        for path, own in list(module.named_modules()):
            if isinstance(own, Stack) and self._varies("length", path):
                modules.gate(own, self.tables["length", path], mixture)
            else:
                modules.mask_matrix(own, self._row_wise.get(f"{path}.weight".lstrip(".")))
            self._expect_buffers(path, own, mixture)
        module.register_forward_pre_hook(lambda _, __: mixture.forget())
        return module

    def _expect_buffers(self, path: str, own: nn.Module, mixture: Mixture) -> None:
        names = {attribute: f"{path}.{attribute}".lstrip(".") for attribute in own._buffers}
        found = {
            attribute: self._contents.expected(name, self.tables["buffer", name], own.get_buffer(attribute))
            for attribute, name in names.items()
            if self._varies("buffer", name)
        }
        if expected := {attribute: expectation for attribute, expectation in found.items() if expectation is not None}:
            pad_buffers(own, expected, mixture)

    def _varies(self, kind: str, path: str) -> bool:
        table = self.tables.get((kind, path))
        return table is not None and len(set(table.values)) > 1

    def _graft(self, module: nn.Module) -> None:
        """Add every alternative of every `one_of` to the module, taken from networks that have it."""
        built: dict[Architecture, nn.Module] = {}
        todo = _alternatives("", module)
        while todo:
            path, own = todo.pop()
            for option in dict.fromkeys(self.tables["chosen", path].values):
                if option not in own._modules:
                    name, arch = f"{path}.{option}".lstrip("."), self._donors[path, option]
                    if arch not in built:
                        built[arch] = build_skeleton(self.build, arch)
                    donated = built[arch].get_submodule(name)
                    own.add_module(option, donated)
                    todo += _alternatives(name, donated)

    @cached_property
    def _donors(self) -> dict[tuple[str, str], Architecture]:
        """A network for each path and alternative, with that alternative at its largest.

        A greedy set cover keeps the number of distinct networks small.
        """
        networks = {arch: self._contained(arch) for arch in self._looked}
        having: dict[tuple[str, str], list[Architecture]] = {}
        for (kind, path, *_), table in self.tables.items():
            for option in dict.fromkeys(table.values) if kind == "chosen" else ():
                inside = f"{path}.{option}".lstrip(".")
                sizes = {
                    arch: contained[inside]
                    for arch, contained in networks.items()
                    if self._looked[arch].get(("chosen", path)) == option
                }
                largest = max(sizes.values())
                having[path, option] = [arch for arch, size in sizes.items() if size == largest]
        found: dict[tuple[str, str], Architecture] = {}
        while len(found) < len(having):
            serves = Counter(arch for key, archs in having.items() if key not in found for arch in archs)
            (arch, _), *_ = serves.most_common(1)
            found |= {key: arch for key, archs in having.items() if key not in found and arch in archs}
        return found

    def _contained(self, arch: Architecture) -> dict[str, tuple[int, int]]:
        """Return the total sizes of parameters and of buffers below each path of a network."""
        axes, buffers = Counter[str](), Counter[str]()
        for (kind, name, *_), value in self._looked[arch].items():
            if kind == "size" and isinstance(value, int):
                axes.update(dict.fromkeys(walk(name), value))
        for name, size in self._extents[arch].items():
            buffers.update(dict.fromkeys(walk(name), size))
        return defaultdict(lambda: (0, 0), {path: (axes[path], buffers[path]) for path in {*axes, *buffers}})

    def _check_full(self, module: nn.Module) -> None:
        for name, parameter in module.named_parameters():
            shape: Shape = tuple(parameter.shape)
            if shape != self.survey.shapes[name]:
                raise RelaxationError(
                    f"{name} is {shape} in the largest network and {self.survey.shapes[name]} at most: give the "
                    "options of each choice from small to large, so that one network has every parameter at full size"
                )


def _alternatives(path: str, module: nn.Module) -> list[tuple[str, OneOf]]:
    """Return every `one_of` in a module, including the module itself, with its path under `path`."""
    found = [(name, own) for name, own in module.named_modules() if isinstance(own, OneOf)]
    return [(f"{path}.{name}".strip("."), own) for name, own in found]


def _features(module: nn.Module) -> dict[Key, Hashable]:
    """Return all features of a network that expectations depend on."""
    found: dict[Key, Hashable] = {}
    for name, parameter in module.named_parameters():
        found["owner", name] = True
        for axis, size in enumerate(parameter.shape):
            found["size", name, axis] = size
    for path, own in module.named_modules():
        found["class", path] = type(own).__name__
        if isinstance(own, Stack):
            found["length", path] = len(own)
        elif isinstance(own, OneOf):
            found["chosen", path] = own.chosen
        elif isinstance(own, nn.LayerNorm | nn.RMSNorm):
            found["widths", path] = (*own.normalized_shape,)
        elif isinstance(own, nn.GroupNorm):
            found["widths", path] = (own.num_channels, own.num_groups)
        elif isinstance(own, nn.modules.conv._ConvNd) and own.groups > 1:
            found["convolution", f"{path}.weight".lstrip(".")] = (
                own.out_channels,
                own.in_channels,
                own.groups,
                own.transposed,
            )
    return found
