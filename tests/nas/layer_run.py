"""A run file that searches layers: small graphs in place of batch norm and ReLU, on 300 of scikit-learn's digits."""

from functools import partial
from typing import Any

from torch import nn

from nas.objectives.hurdles import Hurdle
from nas.run import Run
from search_spaces import LayerSpace, Space
from supernets.alone import Pushed, TrainedAlone
from supernets.models.layers import GraphLayer
from supernets.training import TrainingConfig
from tests.nas.tiny_run import digits

KNOWN = ("max(x, zero)", "tanh(x)", "mul(x, zero)", "exp(exp(x))", "mul(x, sigmoid(x))")


class Layers(Space):
    layer = LayerSpace(size=(1, 2, 3, 4, 5, 6))


def convolutions(arch: Any, *, depthwise: bool = False) -> nn.Module:
    """Two convolutions over the pixels, each with a layer of the graph."""
    groups = 8 if depthwise else 1
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 8, 3, 2, 1),
        GraphLayer(arch.layer, 8, groups=4),
        nn.Conv2d(8, 8, 3, 1, 1, groups=groups),
        GraphLayer(arch.layer, 8, groups=4),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 10),
    )


task = digits()
trained = partial(TrainingConfig, lr=1e-2, precision="fp32")
run = Run(
    name="layers",
    space=Layers(),
    build=convolutions,
    task=task,
    objectives=("dense_error", "depthwise_error"),
    measures={
        "dense_error": TrainedAlone(convolutions, task, trained(steps=25)),
        "depthwise_error": TrainedAlone(partial(convolutions, depthwise=True), task, trained(steps=25)),
    },
    hurdles=(
        Hurdle("gradient_norm <= 1e4", Pushed(convolutions, task, steps=5)),
        Hurdle("quick_error <= 0.87", TrainedAlone(convolutions, task, trained(steps=15))),
    ),
    searcher="evolution(screening=0, around=0, population=8)",
    first=tuple({"layer": LayerSpace().write(text)} for text in KNOWN),
    evaluations=16,
    batch=8,
)
