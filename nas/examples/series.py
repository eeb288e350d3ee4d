"""Forecast a series: the next 8 values from the last 48, convolutions against a recurrent network.

    nas search series.py

What comes of it: in about a minute a front of a dozen forecasters with their root mean squared error in the spread of
the series (0.29 is noise that nobody can foretell) and their latency on one thread: recurrent networks at its accurate
end, convolutions, twice as fast, at the other.
"""

import numpy as np
from torch import nn

from nas import Run
from search_spaces import Space, choice
from supernets import one_of
from supernets.tasks import Regression
from supernets.training import TrainingConfig

PAST, AHEAD = 48, 8


# 1. What may vary: the kind of network, its width, and how far its filters reach.
class Forecasters(Space):
    network = choice("convolution", "recurrent")
    width = choice(8, 16, 32)
    kernel = choice(3, 5, 9, when={"network": "convolution"})
    hidden = choice(16, 32, 64)


# 2. The models. Both take a series (n x PAST) and give features (n x width).
class Convolutions(nn.Module):
    def __init__(self, width, kernel):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(1, width, kernel, padding=kernel // 2),
            nn.ReLU(),
            nn.Conv1d(width, width, kernel, stride=2, padding=kernel // 2),
            nn.ReLU(),
            nn.Conv1d(width, width, kernel, stride=2, padding=kernel // 2),
            nn.ReLU(),
        )

    def forward(self, past):
        return self.layers(past[:, None]).amax(2)


class Recurrent(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.cells = nn.GRU(4, width, batch_first=True)

    def forward(self, past):
        steps, _ = self.cells(past.unflatten(1, (-1, 4)))  # four values a step
        return steps[:, -1]


def build(arch):
    kinds = {
        "convolution": lambda: Convolutions(arch.width, arch.kernel),
        "recurrent": lambda: Recurrent(arch.width),
    }
    return nn.Sequential(
        one_of(arch.network, kinds), nn.Linear(arch.width, arch.hidden), nn.ReLU(), nn.Linear(arch.hidden, AHEAD)
    )


# 3. The data: two rhythms whose strength drifts, and noise. Put a series of yours (n,) in place of `generated`; its
#    beginning is trained on, and what came later judges.
def generated(length=4000, seed=0):
    rng, time = np.random.default_rng(seed), np.arange(length)
    drift = 1 + 0.5 * np.sin(time / 300)
    series = drift * np.sin(2 * np.pi * time / 24) + 0.7 * np.sin(2 * np.pi * time / 7) + rng.normal(0, 0.3, length)
    return (series - series.mean()) / series.std()


def windows(series):
    cut = np.lib.stride_tricks.sliding_window_view(series, PAST + AHEAD)
    return cut[:, :PAST], cut[:, PAST:]


train, valid, test = (windows(part) for part in np.split(generated(), [2800, 3400]))

# 4. The search.
run = Run(
    name="series",
    space=Forecasters(),
    build=build,
    task=Regression(train, valid, test, batch_size=64, name="two rhythms"),
    objectives=("rmse", "latency_ms@cpu"),
    training=TrainingConfig(steps=800, lr=3e-3),
    evaluations=40,
    measured=20,
    trust=0.6,
)
