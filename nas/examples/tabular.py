"""Predict a number from a table: how a diabetes goes on in a year, from ten measurements of 442 patients.

    nas search tabular.py

What comes of it: in about a minute a front of networks from 50 parameters upwards with their root mean squared error,
in the spread of what is predicted (1 is what always saying the mean gives, linear regression reaches about 0.7), and a
trust report that says it plainly: with so few patients the networks hardly differ, so take the smallest.
"""

import numpy as np
from sklearn.datasets import load_diabetes
from torch import nn

from nas import Run
from search_spaces import Space, choice
from supernets import one_of, stack
from supernets.tasks import Regression
from supernets.training import TrainingConfig

COLUMNS = 10


# 1. What may vary.
class Networks(Space):
    width = choice(4, 8, 16, 32)
    depth = choice(0, 1, 2, 3)
    hidden = choice(4, 8, 16, 32, per="depth")
    activation = choice("relu", "tanh")


# 2. The model: a hidden layer a block, added to its input. Without a block it is a linear one.
class Block(nn.Module):
    def __init__(self, width, hidden, activation):
        super().__init__()
        kinds = {"relu": nn.ReLU, "tanh": nn.Tanh}
        self.layers = nn.Sequential(nn.Linear(width, hidden), one_of(activation, kinds), nn.Linear(hidden, width))

    def forward(self, x):
        return x + self.layers(x)


def build(arch):
    blocks = stack(Block(arch.width, hidden, arch.activation) for hidden in arch.hidden)
    return nn.Sequential(nn.Linear(COLUMNS, arch.width), blocks, nn.Linear(arch.width, 1))


# 3. The data: rows of numbers (n x columns) and what to predict (n,). Inputs and targets are brought to a mean of 0 and
#    a spread of 1 by the training rows alone, so that usual learning rates suit them.
def table():
    inputs, targets = load_diabetes(return_X_y=True, scaled=False)
    order = np.random.default_rng(0).permutation(len(targets))
    train, valid, test = np.split(order, [262, 352])
    inputs = (inputs - inputs[train].mean(0)) / inputs[train].std(0)
    targets = (targets - targets[train].mean()) / targets[train].std()
    return [(inputs[rows], targets[rows]) for rows in (train, valid, test)]


# 4. The search. There are few patients, so errors are noisy: the trust report says how far to go by them.
run = Run(
    name="tabular",
    space=Networks(),
    build=build,
    task=Regression(*table(), batch_size=32, name="diabetes"),
    objectives=("rmse", "params"),
    training=TrainingConfig(steps=600, lr=3e-3, weight_decay=1e-2),
    evaluations=100,
    trust=0.5,
)
