"""HAT's translation Transformers (Wang et al. 2020, arXiv:2005.14187): seven tables of 2,000 rows.

`split`: 1,600 rows to learn from, 200 nobody looks at (HAT's validation rows) and 200 to test on, shuffled anew for
every draw, because machines drifted while they measured. Beside ours the network of HAT's released setting. `tasks`:
another task of the same device is known, and of the new one no row, or ten.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import spearmanr
from torch import nn

from benchmarks.latency_prediction.tables import HAT_FEATURES, Transformers, Vector, hat
from benchmarks.report import markdown
from nas.predictors.models import MODELS, EnsembleModel, GaussianProcessModel, RidgeModel

NAME = "hat"
LEARN, TEST = 1600, 200
FEW = 10
STEPS = 5000
PUBLISHED = {
    ("wmt14ende", "cpu_xeon"): "16.98 ms, 5.0 %, .982",
    ("wmt14ende", "cpu_raspberrypi"): "664 ms, 4.2 %, .948",
}
SCALE = np.array([640, 6, 2048, 6, 640, 6, 2048, 6, 6, 2])
"""HAT divides its features by these, and latencies by a round number near their mean."""
MEASURES = ("rmse", "mape", "spearman")

Row = dict[str, Any]
Key = tuple[str, str]


def rows(data: Path, draws: int, done: Callable[[Row], Any]) -> Iterator[Row]:
    """Yield rows draw by draw, so that a stopped benchmark is balanced; HAT's network, the slowest, comes last."""
    tables = hat(data)
    for name, learn in {"ridge": _ridge, "ensemble": _ensemble, "mlp": _mlp}.items():
        for draw in range(draws):
            for (task, device), table in tables.items():
                key = {"part": NAME, "what": "split", "task": task, "device": device, "model": name, "draw": draw}
                if not done(key):
                    yield key | _split(table, learn, draw)
            if learn is _ridge:
                yield from _all_tasks(tables, draw, done)


def _all_tasks(tables: dict[Key, Transformers], draw: int, done: Callable[[Row], Any]) -> Iterator[Row]:
    for task, device in tables:
        for source in [other for other, same in tables if same == device and other != task]:
            key = {"part": NAME, "what": "tasks", "task": task, "device": device, "source": source, "draw": draw}
            if not done(key):
                yield key | _tasks(tables[source, device], tables[task, device], draw)


def derived(x: Vector) -> Vector:
    """(n, 27): the ten features, the whole of what they are averages of, and the depth of the decoder as an option.

    Totals over the layers: of widths, of FFN widths, of FFN multiply-adds, of heads, of encoder layers attended and of
    their keys and values. Anyone who has the ten features can compute them.
    """
    wide_e, deep_e, ffn_e, heads_e, wide_d, deep_d, ffn_d, heads_d, cross_d, attended_d = x.T
    encoder = [deep_e * wide_e, deep_e * ffn_e, deep_e * wide_e * ffn_e, deep_e * heads_e]
    decoder = [deep_d * wide_d, deep_d * ffn_d, deep_d * wide_d * ffn_d, deep_d * heads_d, deep_d * cross_d]
    attention = [deep_d * attended_d, deep_d * attended_d * wide_e]
    return np.column_stack([x, *encoder, *decoder, *attention, *(deep_d == depth for depth in range(1, 7))])


def report(rows: Sequence[Row]) -> list[str]:
    return ["## HAT: Transformers", "", *_split_report(rows), "", *_tasks_report(rows)]


# --- a shuffled split ---------------------------------------------------------------------------------------------

Learn = Callable[[Vector, Vector, Vector, int], Vector]
"""Rows to learn from, their latencies, rows to predict, seed: predicted latencies."""


def _split(table: Transformers, learn: Learn, draw: int) -> Row:
    order = np.random.default_rng([draw, 1]).permutation(len(table.latency))
    some, others = order[:LEARN], order[-TEST:]
    predicted = learn(table.features[some], table.latency[some], table.features[others], draw)
    return _measured(predicted, table.latency[others])


def _measured(predicted: Vector, published: Vector) -> Row:
    return {
        "rmse": float(np.sqrt(np.mean((predicted - published) ** 2))),
        "mape": float(np.mean(np.abs(predicted / published - 1))),
        "spearman": float(spearmanr(predicted, published).statistic),
    }


def _ridge(x: Vector, y: Vector, others: Vector, seed: int) -> Vector:
    model = RidgeModel()
    model.fit(derived(x), y)
    return model.predict(derived(others))[0]


def _ensemble(x: Vector, y: Vector, others: Vector, seed: int) -> Vector:
    """Predict with the ensemble without its neural networks, which take most of the time."""
    model = EnsembleModel({name: MODELS[name] for name in ("ridge", "gaussian_process", "boosting")})
    model.fit(derived(x), y)
    return model.predict(derived(others))[0]


def _mlp(x: Vector, y: Vector, others: Vector, seed: int) -> Vector:
    """Predict as HAT's released code: hidden layers of 400 units, squared error, Adam at 1e-5, 5,000 batches of 128."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    scale = float(f"{y.mean():.0e}")
    net = nn.Sequential(*_layers(), nn.Linear(400, 1), nn.Flatten(0))
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-5, fused=True)
    inputs, targets = _tensor(x / SCALE), _tensor(y / scale)
    for _ in range(STEPS):
        batch = torch.randperm(len(y))[:128]
        optimizer.zero_grad()
        nn.functional.mse_loss(net(inputs[batch]), targets[batch]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():
        predicted: Vector = net(_tensor(others / SCALE)).numpy().astype(np.float64) * scale
    return predicted


def _layers() -> Iterator[nn.Module]:
    for wide in (len(HAT_FEATURES), 400, 400):
        yield nn.Linear(wide, 400)
        yield nn.ReLU()


def _tensor(values: npt.NDArray[Any]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)


def _split_report(rows: Sequence[Row]) -> list[str]:
    held = [row for row in rows if row["what"] == "split"]
    body, better = [], []
    for key in dict.fromkeys((row["task"], row["device"]) for row in held):
        ridge, ensemble, mlp = (
            [row for row in held if (row["task"], row["device"], row["model"]) == (*key, model)]
            for model in ("ridge", "ensemble", "mlp")
        )
        draws = {row["draw"] for row in mlp}
        beside = [row for row in ridge if row["draw"] in draws]
        body.append([*key, *map(_cell, (ridge, ensemble)), str(len(draws)), *map(_cell, (beside, mlp))])
        body[-1].append(PUBLISHED.get(key, ""))
        better += [_better(beside, mlp)] if mlp else []
    header = ["task", "device", "ridge", "ensemble", "draws of the MLP", "ridge in these", "MLP", "MLP, published"]
    won = [f"{measure} on {sum(measure in table for table in better)}" for measure in MEASURES]
    return [
        "RMSE, MAPE and Spearman on 200 rows of a shuffled 80/10/10 split, mean over draws; MLP: of HAT's setting.",
        "",
        *markdown(header, body).splitlines(),
        "",
        f"In the draws that both have, ridge regression is better than that MLP by {', '.join(won)} of {len(better)} "
        "tables. Ridge and ensemble see derived features: totals over the layers (widths, FFN widths, their products, "
        "heads, encoder layers attended) and the depth of the decoder as an option. The ensemble came first; that a "
        "line on these features does as well was seen on the same draws. What is left on most tables is the drift of "
        "the machine, of about 20 % in an eighth of the rows, which no feature tells.",
    ]


def _cell(rows: Sequence[Row]) -> str:
    if not rows:
        return ""
    rmse, mape, rank = (float(np.mean([row[measure] for row in rows])) for measure in MEASURES)
    return f"{rmse:.{0 if rmse >= 100 else 2}f} ms, {100 * mape:.2f} %, {rank:.4f}"


def _better(ours: Sequence[Row], theirs: Sequence[Row]) -> list[str]:
    """Return the measures that are better on average."""
    signs = {"rmse": -1, "mape": -1, "spearman": 1}

    def mean(rows: Sequence[Row], measure: str) -> float:
        return signs[measure] * float(np.mean([row[measure] for row in rows]))

    return [measure for measure in MEASURES if mean(ours, measure) > mean(theirs, measure)]


# --- from another task --------------------------------------------------------------------------------------------


def _tasks(source: Transformers, table: Transformers, draw: int) -> Row:
    """Return errors on all other rows of the new task: zero-shot, ten rows and the source, ten rows alone."""
    known = GaussianProcessModel()
    known.fit(derived(source.features), source.latency)
    predicted = known.predict(derived(table.features))[0]
    order = np.random.default_rng([draw, 2]).permutation(len(table.latency))
    some, others = order[:FEW], order[FEW:]
    line, alone = RidgeModel(), RidgeModel()
    line.fit(np.log(predicted[some])[:, None], table.latency[some])
    alone.fit(derived(table.features[some]), table.latency[some])
    told = {
        "zero": predicted[others],
        "ten": line.predict(np.log(predicted[others])[:, None])[0],
        "alone": alone.predict(derived(table.features[others]))[0],
    }
    measured = {name: _measured(values, table.latency[others]) for name, values in told.items()}
    return {f"{measure}_{name}": value for name, values in measured.items() for measure, value in values.items()}


def _tasks_report(rows: Sequence[Row]) -> list[str]:
    held = [row for row in rows if row["what"] == "tasks"]
    body = []
    for task, device in dict.fromkeys((row["task"], row["device"]) for row in held):
        some = [row for row in held if (row["task"], row["device"]) == (task, device)]
        cells = [_told(some, name) for name in ("zero", "ten", "alone")]
        body.append([task, device, ", ".join(sorted({row["source"] for row in some})), *cells])
    return [
        "From another task of the same device (MAPE and Spearman on all other rows, mean over sources and draws):",
        "",
        *markdown(["task", "device", "known", "no row", "ten rows", "ten rows alone"], body).splitlines(),
        "",
        "With ten rows a line is fitted through what the known task predicts.",
    ]


def _told(rows: Sequence[Row], name: str) -> str:
    mape, rank = (float(np.mean([row[f"{measure}_{name}"] for row in rows])) for measure in ("mape", "spearman"))
    return f"{100 * mape:.1f} %, {rank:.3f}"
