"""A build whose modules store parameters with unequal parts part by part, so that each part can be sliced normally."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from search_spaces import Architecture, Space
from supernets.errors import UnequalPartsError
from supernets.joined import take_apart
from supernets.layout import Layouts
from supernets.nesting import unequal
from supernets.skeleton import Build
from supernets.survey import Survey, survey


@dataclass(frozen=True)
class Apart:
    """Builds modules and splits the parameters for which their classes or the user's layouts declare unequal parts."""

    build: Build
    layouts: Layouts

    def __call__(self, arch: Architecture) -> nn.Module:
        module = self.build(arch)
        for name, parts in unequal(module, self.layouts, arch).items():
            path, _, attribute = name.rpartition(".")
            take_apart(module.get_submodule(path), attribute, parts)
        return module


def looked_at(space: Space, build: Build, layouts: Layouts, also: Sequence[Architecture] = ()) -> tuple[Survey, Build]:
    """Return the survey of a space's networks, and the build whose modules have the surveyed names.

    If choices change unequal parts of a parameter, the build stores the parts separately.

    Raises:
        ShapeError, SupernetError: as `survey`.
    """
    try:
        return survey(space, build, layouts, also), build
    except UnequalPartsError:
        taken = Apart(build, layouts)
        return survey(space, taken, layouts, also), taken
