"""A run file that starts with trained weights: the largest of the tiny networks, trained for a moment."""

from dataclasses import replace

import torch

from supernets.training import TrainingConfig, train_network
from tests.nas import tiny_run

torch.manual_seed(0)
parent = tiny_run.build(tiny_run.TinySpace().largest())
train_network(parent, tiny_run.run.task, TrainingConfig(steps=60, lr=1e-2, precision="fp32"), progress=False)
run = replace(
    tiny_run.run,
    name="smaller",
    init=parent,
    training=replace(tiny_run.run.training, steps=0),
    evaluations=16,
)
