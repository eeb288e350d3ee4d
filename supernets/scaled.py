"""Stand-alone trainings with the learning rates and initial values that their `scaling` defines."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from search_spaces import Architecture, Space
from supernets import calibrate
from supernets.connectivity import connectivity
from supernets.scaling import Unscaled, scale_variance, scaling
from supernets.skeleton import Build, build_initialised, build_skeleton
from supernets.tasks import Task
from supernets.training import TrainingConfig, train_network


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


def train_alone(
    module: nn.Module,
    task: Task,
    config: TrainingConfig,
    space: Space,
    build: Build,
    *,
    device: torch.device | str,
    directory: Path | None,
    progress: bool = False,
) -> nn.Module:
    """Train a network of a space on its own, at the rate that `config.scaling` gives it; its batch norm is calibrated.

    Raises:
        TrainingError: the training came to nothing.
    """
    own = scaled_in(config, module, space, build, task.example(2))
    module = module.to(device)
    train_network(module, task, own, directory=directory, progress=progress)
    return calibrate.recalibrate(module, task.calibration(calibrate.NUM_BATCHES))
