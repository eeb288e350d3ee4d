"""Do zero-cost proxies rank networks better than their size does?

In the two truth tasks, every network has been trained alone. Each proxy is computed for all of them, with several
initialisations, and compared with the stand-alone metrics by Kendall's tau, beside parameters and multiply-accumulates.
A paired bootstrap over architectures tests whether it beats the better size. The last columns show whether it improves
a surrogate: the tau of a Gaussian process over differing choices, fitted to twenty networks, and the gain from the
proxy as an additional input.

    python -m benchmarks.proxies [--seeds 3]
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.progress import track

from benchmarks.finding import find
from benchmarks.report import machine, markdown
from benchmarks.truths import Truth
from supernets.correlation import interval, resamples, taus, whole
from supernets.proxies import PROXIES, proxies

RESULTS = Path("benchmarks/results/proxies.md")
TASKS = ("image", "text")
Vector = npt.NDArray[np.float64]
_NUM_RESAMPLES, _CONFIDENCE = 1000, 0.95
_LABELS, _DRAWS = 20, 50
_RATES, _SHARES, _NOISES = (0.1, 0.3, 1.0), (0.3, 1.0, 3.0), (0.01, 0.1, 0.3)


def scores(truth: Truth, seeds: int) -> tuple[dict[str, Vector], dict[str, float]]:
    """Return the values (n x seeds) of each proxy, and its seconds per network."""
    found = {name: np.empty((len(truth.archs), seeds)) for name in PROXIES}
    seconds = dict.fromkeys(PROXIES, 0.0)
    for row, arch in enumerate(track(truth.archs, truth.name, console=Console(stderr=True))):
        for seed in range(seeds):
            for name, values in found.items():
                began = time.process_time()
                values[row, seed] = proxies(truth.build, arch, truth.task, [name], seed)[name]
                seconds[name] += time.process_time() - began
    return found, {name: total / len(truth.archs) / seeds for name, total in seconds.items()}


def compare(truth: Truth, found: Mapping[str, Vector], seconds: Mapping[str, float]) -> list[list[str]]:
    """Return one row per predictor."""
    goal, n = -truth.mean, len(truth.archs)
    told = {"parameters": truth.params[:, None], "MACs": truth.macs[:, None]}
    size = max(told, key=lambda name: tau(told[name][:, 0], goal))
    weights = resamples(n, _NUM_RESAMPLES, seed=0)
    base = taus(told[size][:, 0], goal, weights)
    codes = truth.space.codes(truth.archs)
    alone, rows = learnt(goal, codes, None), []
    for name, columns in {**told, **found}.items():
        own = [tau(column, goal) for column in columns.T]
        apart = np.mean([taus(column, goal, weights) for column in columns.T], axis=0) - base
        low, high = interval(apart, _CONFIDENCE, 2.0)
        gain = f"{np.mean(own) - tau(told[size][:, 0], goal):+.2f} ({low:+.2f} to {high:+.2f})"
        spread = f" ({min(own):.2f} to {max(own):.2f})" if len(own) > 1 else ""
        numbers = np.log(columns) if name in told else columns
        both = np.mean([learnt(goal, codes, column) - alone for column in numbers.T], axis=0)
        more = f"{both.mean():+.3f} ({both.std(ddof=1) / np.sqrt(len(both)):.3f})"
        cost = f"{1e3 * seconds[name]:.0f}" if name in seconds else ""
        cells = [f"{np.mean(own):.2f}{spread}", "" if name == size else gain, cost, f"{alone.mean():.3f}", more]
        rows.append([truth.name, name, *cells])
    return rows


def tau(values: Vector, goal: Vector) -> float:
    return float(taus(values, goal, whole(len(goal)))[0])


def learnt(goal: Vector, codes: npt.NDArray[np.int16], numbers: Vector | None) -> Vector:
    """Return (draws,) taus, on the other networks, of a Gaussian process fitted to a few.

    Its kernel is exp(-rate * number of differing choices), plus a linear one in the additional inputs; maximum
    likelihood determines the rate, the share of each and the noise.
    """
    apart = (codes[:, None] != codes[None]).sum(2)
    kernels = [np.exp(-rate * apart) for rate in _RATES]
    if numbers is not None:
        scaled = (numbers - numbers.mean()) / numbers.std()
        kernels += [kernel + share * np.outer(scaled, scaled) for kernel in kernels for share in _SHARES]
    found = []
    for draw in range(_DRAWS):
        order = np.random.default_rng(draw).permutation(len(goal))
        seen, left = order[:_LABELS], order[_LABELS:]
        found.append(tau(_predicted(kernels, goal[seen], seen, left), goal[left]))
    return np.array(found)


def _predicted(
    kernels: Sequence[Vector], values: Vector, seen: npt.NDArray[np.intp], left: npt.NDArray[np.intp]
) -> Vector:
    scaled = (values - values.mean()) / values.std()
    best, chosen = -np.inf, np.zeros(len(left))
    for kernel in kernels:
        for noise in _NOISES:
            within = kernel[np.ix_(seen, seen)] + noise * np.eye(len(seen))
            solved = np.linalg.solve(within, scaled)
            scale = float(scaled @ solved) / len(seen)  # of the whole kernel: the likeliest has a closed form
            likelihood = -0.5 * (len(seen) * np.log(scale) + np.linalg.slogdet(within)[1])
            if likelihood > best:
                best, chosen = likelihood, kernel[np.ix_(left, seen)] @ solved
    return chosen


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.proxies", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args(words)
    torch.set_num_threads(1)
    rows: list[list[str]] = []
    for name in TASKS:
        truth = find(name)
        rows += compare(truth, *scores(truth, given.seeds))
        given.out.write_text(report(rows, given.seeds), encoding="utf-8")
    Console().print(given.out.read_text(encoding="utf-8"), markup=False, soft_wrap=True)


def report(rows: Sequence[Sequence[str]], seeds: int) -> str:
    header = ["task", "told by", "tau (of seeds)", "over the better size", "ms", "surrogate", "adds to it"]
    return (
        "# Zero-cost proxies compared with stand-alone training\n\n"
        f"{machine('cpu', 1)}; written by `python -m benchmarks.proxies`. All 243 networks of the image task, all 96 "
        f"of the text task; {seeds} initialisations. Kendall's tau with the stand-alone metric, mean (least to most) "
        "over seeds; its difference from the tau of the better size, with the 95 % interval of a paired bootstrap over "
        "networks; process time per network. Surrogate: tau on the other networks of a Gaussian process over choices "
        f"fitted to {_LABELS}, and its gain from the proxy as an additional input (standard error over {_DRAWS} "
        "draws).\n\n" + markdown(header, rows)
    )


if __name__ == "__main__":
    main()
