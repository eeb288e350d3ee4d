"""Trainings of networks alone, with the rates and initial values that their `scaling` gives them."""

from dataclasses import replace

from torch import Tensor, nn

from search_spaces import Architecture, Space
from supernets.connectivity import connectivity
from supernets.scaling import Unscaled, scale_variance, scaling
from supernets.skeleton import Build, build_initialised, build_skeleton
from supernets.training import TrainingConfig


def scaled(config: TrainingConfig, network: nn.Module, base: nn.Module, example: Tensor) -> TrainingConfig:
    """The settings of a network's training whose rate was found for the base, which itself keeps it.

    Args:
        example: inputs that both take; two examples are enough.
    """
    rule = scaling(config.scaling)
    if isinstance(rule, Unscaled):
        return config
    return replace(config, lr=config.lr * rule.factor(connectivity(network, example), connectivity(base, example)))


def scaled_in(
    config: TrainingConfig, network: nn.Module, space: Space, build: Build, example: Tensor
) -> TrainingConfig:
    """`scaled`, with the largest network of a space as the base: a rate is found for the supernet that trains it."""
    if isinstance(scaling(config.scaling), Unscaled):
        return config
    return scaled(config, network, build_skeleton(build, space.largest()), example)


def initialised(build: Build, arch: Architecture, config: TrainingConfig, example: Tensor) -> nn.Module:
    """The module of an architecture with the values its own initialisation gives under the seed of its training, which
    are scaled where `config.scaling` says so."""
    module = build_initialised(build, arch, config.seed)
    return scale_variance(module, example) if scaling(config.scaling).variance else module
