"""Analyse a space of networks without weights: shapes, the choices on which they depend, and costs.

Nothing here uses memory of the model's size. Parameters become meta tensors as modules register them, and the memory
that a constructor requests before that is never written to, so the system does not provide it
(benchmarks/results/planning.md).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from search_spaces import Architecture, Space
from supernets.apart import looked_at
from supernets.fused import Example as Example  # others import it from here
from supernets.fused import proved
from supernets.joined import whole
from supernets.layout import Layouts
from supernets.profile import Profile, profile_network
from supernets.ratios import notes
from supernets.skeleton import Build, build_skeleton
from supernets.survey import Coverage

logger = logging.getLogger(__name__)


class Plan:
    """The shapes of a space's networks, without weights: what `Supernet` needs before allocation.

    Args:
        space: the architectures.
        build: the user's function from an architecture to a plain ``nn.Module``.
        layout: fused axes and centred axes of parameters, by name pattern.
        example: an input of the networks; axes that runs on it show to be fused are cut in blocks.
        also: architectures to look at besides the largest with each option in turn.

    Raises:
        BuildError: ``build`` failed.
        ShapeError: two architectures give one name tensors of different rank.
        SupernetError: a layout names nothing.
    """

    def __init__(
        self,
        space: Space,
        build: Build,
        *,
        layout: Layouts | None = None,
        example: Example | None = None,
        also: Sequence[Architecture] = (),
    ) -> None:
        self.space = space
        self.survey, self.build = looked_at(space, build, layout or {}, also)
        if example is not None:
            self.survey = proved(self.survey, self.build, example)
            for note in self.survey.notes:
                logger.warning("%s", note)

    @property
    def num_parameters(self) -> int:
        """Return the number of parameters of a supernet with entangled weights."""
        return sum(int(np.prod(shape)) for shape in self.survey.shapes.values())

    def coverage(self) -> Coverage:
        """Return which parameters are elastic, along which axes, and by which choices."""
        coverage = self.survey.coverage()
        return replace(coverage, notes=(*coverage.notes, *notes(self.survey)))

    def count_parameters(self, arch: Architecture) -> int:
        """Return the number of parameters of the network of ``arch``, with tied ones counted once."""
        return sum(parameter.numel() for parameter in build_skeleton(self.build, arch).parameters())

    def profile(self, arch: Architecture, example: Example) -> Profile:
        """Return parameters, multiply-accumulates and activation bytes of ``arch``, counted on the meta device."""
        return profile_network(whole(build_skeleton(self.build, arch)), example)

    def profiles(self, example: Example, sample: int = 3, seed: int = 0) -> dict[str, Profile]:
        """Return the profiles of the smallest, the largest and some uniformly sampled architectures."""
        rng = np.random.default_rng(seed)
        archs = {"smallest": self.space.smallest(), "largest": self.space.largest()}
        archs |= {f"random {i + 1}": self.space.sample(rng) for i in range(sample)}
        return {label: self.profile(arch, example) for label, arch in archs.items()}
