"""Layers that learnt to copy the one before against untied and all tied ones with as many parameters.

    python -m benchmarks.methods.tying [--seeds 4]

Residual perceptrons of six layers learn clothes of 14 x 14 pixels (Fashion-MNIST), 4,000 of them. Which layers copy is
learnt from a supernet of all 32 ties, whose layers keep norms of their own, by `policy` with a limit on parameters that
three copies keep. The three likeliest copies are then trained alone, as all other ties are: untied and all tied layers
of the width with which they have about as many parameters, and as many copies at other places, drawn.
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE")  # before torch is imported

import argparse
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.methods.ensembles import task
from benchmarks.methods.report import put
from nas.records import Evaluation
from nas.searchers import PolicySearch
from search_spaces import Architecture, Space, choice
from supernets import Supernet, calibrate, stack, tie
from supernets.tasks import Classification
from supernets.training import TrainingConfig, train, train_network

ABOUT = """
Learnt ties spare parameters at little cost in quality. Three of five layers copy here; with as many parameters they
are better than all layers tied and wider, by half a percent of errors in the median, and level with as many copies
drawn at random, within the seeds: **where to tie is hardly learnt**, for the supernet's differences are as small as
its noise. **Untied and narrower layers are better still** in all three seeds, so at this size tying does not pay at
equal parameters, and it never saves multiply-accumulates.
"""
LAYERS, WIDTH = 6, 32
STEPS, SUPERNET_STEPS = 600, 1_200
ASKED = 12
"""Evaluations, of the 16 networks that keep the limit, that the policy learns from."""
COPIES = 3
"""Of the five layers after the first; no network with fewer is evaluated."""


class Ties(Space):
    """Space of which layers copy the one before."""

    copied = choice(True, False, per=LAYERS - 1)


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 2 * width)
        self.down = nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.down(self.up(self.norm(x)).relu())
        return y


def network(copied: Sequence[bool], width: int = WIDTH) -> nn.Module:
    blocks = [Block(width) for _ in range(LAYERS)]
    tie(blocks, copied, but=("norm*",))
    return nn.Sequential(nn.Flatten(), nn.Linear(196, width), stack(blocks), nn.LayerNorm(width), nn.Linear(width, 10))


def build(arch: Architecture) -> nn.Module:
    return network(arch.copied)


def params(copied: Sequence[bool], width: int = WIDTH) -> int:
    return sum(parameter.numel() for parameter in network(copied, width).parameters())


def fitted(copied: Sequence[bool], wanted: int) -> int:
    """Return the width at which a network has the wanted number of parameters."""
    return min(range(4, 128), key=lambda width: abs(params(copied, width) - wanted))


def learnt(about: Classification, seed: int) -> tuple[bool, ...]:
    """Return the most likely copies of a policy."""
    supernet = Supernet(Ties(), build, seed=seed)
    config = TrainingConfig(steps=SUPERNET_STEPS, seed=seed, strategy="uniform", evaluate_every=0, checkpoint_every=0)
    train(supernet, about, config, progress=False)
    searcher = PolicySearch(Ties(), ("error",), feasible=_small, lr=0.4)
    for batch in range(ASKED // 4):
        archs = searcher.ask(4, np.random.default_rng([seed, batch]))
        searcher.tell([Evaluation(arch, calibrate.evaluate(supernet, arch, about)) for arch in archs])
    chances = [searcher.chances[f"copied.{at}"][0] for at in range(LAYERS - 1)]
    likeliest = np.argsort(chances)[-COPIES:]
    return tuple(at in likeliest for at in range(LAYERS - 1))


def _small(archs: Sequence[Architecture]) -> np.ndarray:
    return np.array([sum(arch.copied) >= COPIES for arch in archs], dtype=bool)


def shuffled(copied: Sequence[bool], seed: int) -> tuple[bool, ...]:
    """Return the same number of copies at random places."""
    return tuple(bool(one) for one in np.random.default_rng([seed, 3]).permutation(np.array(copied)))


def error(make: Callable[[], nn.Module], about: Classification, seed: int) -> float:
    torch.manual_seed(seed)
    module = make()
    config = TrainingConfig(steps=STEPS, seed=seed, evaluate_every=0, checkpoint_every=0)
    train_network(module, about, config, progress=False)
    return about.evaluate(module, "test")["error"]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=4)
    about, none, all_ = task(), (False,) * (LAYERS - 1), (True,) * (LAYERS - 1)
    for seed in range(parser.parse_args().seeds):
        found = learnt(about, seed)
        wanted = params(found)
        ways = {
            "learnt ties": (found, WIDTH),
            "as many at random": (shuffled(found, seed), WIDTH),
            "untied, narrower": (none, fitted(none, wanted)),
            "all tied, wider": (all_, fitted(all_, wanted)),
            "untied, of the same width": (none, WIDTH),
        }
        for way, (copied, width) in ways.items():
            wrong = error(lambda copied=copied, width=width: network(copied, width), about, seed)  # type: ignore[misc]
            put("tying", "clothes", way, "layers that copy", seed, float(sum(copied)))
            put("tying", "clothes", way, "thousand parameters", seed, round(params(copied, width) / 1e3, 3))
            put("tying", "clothes", way, "test error, %", seed, round(100 * wrong, 3))
            print(seed, way, copied, width, wrong, flush=True)


if __name__ == "__main__":
    main()
