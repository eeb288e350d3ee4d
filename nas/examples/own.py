"""A task of your own: a model with two outputs, which digit an image shows and by how many degrees it is turned.

    nas search own.py

What comes of it: in a minute a front of networks from 3,000 to 70,000 parameters that answer both, ranked by a metric
of your own making: the share of wrong digits and the angle's mean error in units of 45 degrees, added up.
"""

from typing import NamedTuple

import numpy as np
import torch
from scipy.ndimage import rotate
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from nas import Run
from nas.data import digits
from search_spaces import Space, choice
from supernets import stack
from supernets.tasks import batch_indices, evaluating
from supernets.training import TrainingConfig

MOST = 45  # degrees


# 1. What may vary.
class Networks(Space):
    width = choice(32, 64, 96)
    depth = choice(1, 2, 3)
    hidden = choice(32, 64, 128, per="depth")


# 2. The model. It may return any object: a tuple, a dataclass, a dict.
class Answer(NamedTuple):
    digit: Tensor  # (n, 10) logits
    angle: Tensor  # (n,) in units of MOST degrees


class Block(nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        self.layers = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x):
        return x + self.layers(x)


class Network(nn.Module):
    def __init__(self, arch):
        super().__init__()
        self.first = nn.Linear(64, arch.width)
        self.blocks = stack(Block(arch.width, hidden) for hidden in arch.hidden)
        self.digit, self.angle = nn.Linear(arch.width, 10), nn.Linear(arch.width, 1)

    def forward(self, images):
        x = self.blocks(self.first(images.flatten(1)))
        return Answer(self.digit(x), self.angle(x)[:, 0])


# 3. The task: what `supernets.tasks.Task` asks for. A batch may be any tuple, list or dict of tensors.
class TurnedDigits:
    name = "turned digits"
    metric = "wrong"  # the key of `evaluate` that is minimised
    further_metrics = ("error", "degrees")  # others of its keys, which objectives and limits may name too
    digest = "turned-digits-1"  # names data and settings: change it when they change, for results are found by it
    batch_size = 32

    def __init__(self):
        data, rng = digits(), np.random.default_rng(0)
        self.splits = {name: turned(getattr(data, name), rng) for name in ("train", "valid", "test")}
        self.num_train = len(self.splits["train"][0])

    def example(self, batch=1):
        """An input, to trace and to measure networks with."""
        return self.splits["train"][0][:batch]

    def batch(self, step, seed):
        """The training batch of a step. It must depend on `step` and `seed` alone: that makes resuming exact."""
        chosen = batch_indices(self.num_train, self.batch_size, step, seed)
        return tuple(tensor[chosen] for tensor in self.splits["train"])

    def outputs(self, module, batch):
        """What the loss reads: one tensor, a row an example. Objects are taken apart here."""
        answer = module(batch[0])
        return torch.cat([answer.digit, answer.angle[:, None]], 1)

    def loss(self, outputs, batch):
        _, digit, angle = batch
        return cross_entropy(outputs[:, :10], digit) + (outputs[:, 10] - angle).square().mean()

    def evaluate(self, module, split="valid"):
        """The metrics, the lower the better. `evaluating` sets the module to evaluation and gives its device."""
        with evaluating(module) as device:
            images, digit, angle = (tensor.to(device) for tensor in self.splits[split])
            outputs = self.outputs(module, (images,))
        error = float((outputs[:, :10].argmax(1) != digit).double().mean())
        degrees = float((outputs[:, 10] - angle).abs().mean()) * MOST
        return {"wrong": error + degrees / MOST, "error": error, "degrees": degrees}

    def calibration(self, n):
        """Inputs of `n` fixed batches, for the statistics of batch norm."""
        return (self.batch(step, seed=0)[0] for step in range(n))


def turned(split, rng):
    """Every image three times, each time by another angle."""
    images, labels = split
    angles = rng.uniform(-MOST, MOST, (3, len(images)))
    pairs = zip(np.tile(images[:, 0], (3, 1, 1)), angles.ravel(), strict=True)
    inputs = [rotate(image, angle, reshape=False, order=1) for image, angle in pairs]
    targets = torch.from_numpy(np.tile(labels, 3)), torch.tensor(angles.ravel() / MOST, dtype=torch.float32)
    return torch.tensor(np.array(inputs)[:, None]), *targets


# 4. The search.
run = Run(
    name="own",
    space=Networks(),
    build=Network,
    task=TurnedDigits(),
    objectives=("wrong", "params"),
    training=TrainingConfig(steps=800, lr=3e-3),
    evaluations=80,
    trust=0.3,
)
