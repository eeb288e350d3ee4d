"""What is stored and handed round: frozen values made of plain Python, with no knowledge of any database.

Dictionaries called `settings`, `declaration`, `description` or `conditions` hold JSON values; a tuple put into one
comes back from the database as a list. Times are ISO 8601 strings in UTC. Digests are lower-case hexadecimal strings.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from nas.errors import NasError

if TYPE_CHECKING:
    from search_spaces import Architecture

Which = Literal["smallest", "random", "largest", "train"]
Level = Literal["reliable", "rough", "unreliable", "unknown"]
TOLERANCE = 1e-4  # by how much probabilities may miss a sum of 1: they were float32
FLOOR = 1e-12  # of a probability when architectures are drawn: `Space.sample` wants weights above 0


def now() -> str:
    """The time in UTC as the records hold it: `2026-01-31T12:00:00+00:00`."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True, slots=True)
class SpaceRecord:
    """One version of a declared space."""

    digest: str
    name: str
    declaration: dict[str, Any]


@dataclass(frozen=True, slots=True)
class SupernetRecord:
    """Trained shared weights; `digest` is the digest of the weights themselves."""

    digest: str
    space_digest: str
    name: str
    sharing: str
    weights_path: str
    task_digest: str
    steps: int
    settings: dict[str, Any] = field(default_factory=dict)
    created: str = field(default_factory=now)


@dataclass(frozen=True, slots=True)
class StudyRecord:
    """One search: what is minimised, under which limits, by whom and from which seed.

    `supernet_digest` is None for a study that trains or looks up each network on its own; `run_file` is the Python file
    that started the study, where there is one; `status` is free text such as "running" or "finished";
    `wanted` is how many evaluations it was last asked for, None before that.

    Raises:
        NasError: a blank or unprintable name, no objective, or a seed that databases cannot hold.
    """

    name: str
    space_digest: str
    supernet_digest: str | None
    objectives: tuple[str, ...]
    limits: tuple[str, ...]
    searcher: str
    seed: int
    settings: dict[str, Any] = field(default_factory=dict)
    created: str = field(default_factory=now)
    run_file: str | None = None
    status: str = "created"
    wanted: int | None = None

    def __post_init__(self) -> None:
        if not self.name.strip() or not self.name.isprintable():
            raise NasError(f"a study's name is {self.name!r}; give it one of printable characters")
        if not self.objectives:
            raise NasError(f"study {self.name!r} has no objective; name at least one metric to minimise")
        if not 0 <= self.seed < 2**63:
            raise NasError(f"the seed of study {self.name!r} is {self.seed}; take one from 0 to 2**63 - 1")


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What one architecture was found to be worth: metrics, or the reason why there are none.

    Metric values become plain floats. A NaN or an infinity cannot be ranked and has no place in JSON, so metrics
    holding one make this a failed evaluation that says so. This happens on construction, before anyone has seen the
    value, so a searcher is told the same live as when a study is replayed from the database.

    Raises:
        NasError: metrics beside an error, or a metric that is not a number.
    """

    arch: Architecture
    metrics: dict[str, float]
    error: str | None = None
    seconds: float = 0.0
    worker: str = ""

    def __post_init__(self) -> None:
        metrics, error = _plain_metrics(self.metrics), self.error
        if error is not None and metrics:
            raise NasError(f"an evaluation with the error {error!r} also has metrics {metrics}; give one of the two")
        wrong = {name: value for name, value in metrics.items() if not math.isfinite(value)}
        if wrong:
            shown = ", ".join(f"{name} is {value}" for name, value in wrong.items())
            metrics, error = {}, f"not a finite number: {shown}"
        object.__setattr__(self, "metrics", metrics)
        object.__setattr__(self, "error", None if error is None else _storable(error))
        object.__setattr__(self, "seconds", float(self.seconds))
        object.__setattr__(self, "worker", _storable(self.worker))

    @property
    def failed(self) -> bool:
        """Whether there are no metrics, only an `error`."""
        return self.error is not None


@dataclass(frozen=True, slots=True)
class Origin:
    """How an architecture came to be proposed, in a word or two, and from which others, by their digests."""

    how: str
    parents: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Life:
    """When a study stored an evaluation, in seconds since 1970 by the database's clock, and where it came from.

    Both are None where nothing is known. No result depends on them.
    """

    stored: float | None = None
    origin: Origin | None = None


@dataclass(frozen=True, slots=True)
class Lived:
    """What is known of one evaluation of a study beside its metrics: its position, and how long it took where."""

    position: int
    seconds: float
    worker: str
    life: Life


@dataclass(frozen=True, slots=True)
class TargetRecord:
    """A machine that latencies are measured on, as it is now: another fingerprint is another version of the target.

    `kind` and `settings` build it again (`nas.targets.build`); `description` is its fingerprint: processor, threads,
    precision, versions of libraries. Latencies of one version can be compared.
    """

    name: str
    kind: str
    description: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def version(self) -> str:
        """Digest of the fingerprint."""
        return hashlib.sha256(json.dumps(self.description, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def machine(self) -> str:
        """What is behind it in words: device, processor or table, threads, precision; "" where that is not known."""
        told = self.description
        named = next((str(told[name]) for name in ("device", "processor", "table") if told.get(name)), "")
        threads = told.get("threads")
        words = [
            named,
            f"{threads} thread{'s' * (threads != 1)}" if threads else "",
            str(told.get("precision", "")),
            f"{told['rows']:,} rows" if "table" in told and "rows" in told else "",
        ]
        return ", ".join(word for word in words if word)


STANDING_TARGETS = (TargetRecord("cpu", "cpu"), TargetRecord("onnx", "onnx"))
"""Those that are there without being added: one thread of this machine, in PyTorch and in ONNX Runtime."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """The latency of one extracted network on one version of a target; `architecture` is its canonical JSON.

    `network` is a fingerprint of what the choices leave open: two runs may build different networks from them.
    """

    arch_digest: str
    architecture: str
    target: str
    version: str
    network: str
    median_ms: float
    iqr_ms: float
    repeats: int
    conditions: dict[str, Any] = field(default_factory=dict)
    """Shapes and types of the input, batch size, threads, warm-up, load, share of outliers, drift."""
    peak_bytes: int | None = None
    """Most bytes that weights, inputs and activations held at once; None where the target cannot tell."""
    energy_mj: float | None = None
    """Millijoules of one pass; None where the machine has no counter that may be read."""
    notes: tuple[str, ...] = ()
    """What was odd about it, in words."""
    created: str = field(default_factory=now)


@dataclass(frozen=True, slots=True)
class PredictorRecord:
    """A latency predictor, as data: what it was fitted to is in `content`, and a fit is deterministic.

    There is one for each target's version, space and kind of network (`network`: see `Measurement`).
    """

    target: str
    version: str
    space_digest: str
    network: str
    kind: str
    """One of `nas.predictors.PREDICTORS`."""
    quality: dict[str, Any]
    """On held-back measurements: the fields of `nas.predictors.quality.Quality`."""
    content: str
    """JSON of `nas.predictors.stored`."""
    warnings: tuple[str, ...] = ()
    created: str = field(default_factory=now)


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """A point on a training curve; a diverged training shows as a NaN or infinite `value`."""

    step: int
    which: Which
    metric: str
    value: float


@dataclass(frozen=True, slots=True)
class Trust:
    """How far a supernet's ranking can be believed, against a few stand-alone trainings.

    The figures are those of `supernets.ranking.RankingReport` under their names there, which says what they mean; None
    where one is not determined. They lie in the database as JSON. `gaps`, `baselines` and `rows` hold one dictionary
    for each third by size, each way to rank by size, and each architecture.
    """

    verdict: str
    """One or two sentences for people."""
    level: Level
    """Of the verdict, where a colour or a sign is to stand for it."""
    banner: str = ""
    """What must be read before all else; empty where there is nothing of the kind."""
    metric: str = "error"
    """The metric that was compared."""
    tau: float | None = None
    tau_low: float | None = None
    tau_high: float | None = None
    rho: float | None = None
    rho_low: float | None = None
    rho_high: float | None = None
    noise: float | None = None
    ceiling: float | None = None
    ceiling_low: float | None = None
    ceiling_high: float | None = None
    k: int = 1
    top_k: float | None = None
    regret: float | None = None
    regret_k: float | None = None
    gap: float | None = None
    absolute_gap: float | None = None
    gaps: tuple[dict[str, Any], ...] = ()
    baselines: tuple[dict[str, Any], ...] = ()
    rows: tuple[dict[str, Any], ...] = ()
    steps: int = 0
    """Of each stand-alone training."""
    share: float | None = None
    """What the stand-alone trainings cost, as a share of the cost of training the supernet."""
    seconds: float = 0.0
    """Of the stand-alone trainings."""
    warm: bool = False
    """Whether they began with inherited weights."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """What a gradient search has learnt: a probability for every option of every choice, followed over its steps.

    A choice that is not active in an architecture takes no part in it, so probabilities are those given that it is.
    Numbers become plain floats in tuples, so a distribution equals itself as it comes back from the database.

    Raises:
        NasError: steps that do not ascend, a choice without a vector for each of them, vectors of different lengths, a
            vector that does not sum to 1, or a derived architecture that is no JSON object.
    """

    study: str
    """Name of the study it was learnt for; empty as long as it belongs to none."""
    method: str
    """As it is spelled with its settings: "drnas(concentration=1.0)"."""
    label: str
    """Which of several that one search has learnt, as in "cpu 0.25"; empty where it is the only one."""
    steps: tuple[int, ...]
    """When it was looked at, ascending; the last is the end."""
    probabilities: Mapping[str, Sequence[Sequence[float]]]
    """By path of a choice: for each of `steps` one probability an option of the declaration."""
    derived: str
    """Canonical JSON of the derived architecture."""
    warnings: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", tuple(map(int, self.steps)))
        plain = {path: tuple(tuple(map(float, vector)) for vector in rows) for path, rows in self.probabilities.items()}
        object.__setattr__(self, "probabilities", plain)
        object.__setattr__(self, "warnings", tuple(map(_storable, self.warnings)))
        object.__setattr__(self, "seconds", float(self.seconds))
        if not self.steps or list(self.steps) != sorted({step for step in self.steps if step >= 0}):
            raise NasError(f"the steps of distribution {self.label!r} are {self.steps}; give ascending ones from 0 on")
        for path, rows in plain.items():
            _check_vectors(path, rows, len(self.steps))
        if not _is_object(self.derived):
            rule = "give the canonical JSON of an architecture, as in arch.json()"
            raise NasError(f"the derived architecture of distribution {self.label!r} is {self.derived!r}; {rule}")

    @property
    def arch(self) -> Architecture:
        """The derived architecture."""
        from search_spaces import Architecture

        return Architecture.from_json(self.derived)

    @property
    def final(self) -> dict[str, tuple[float, ...]]:
        """What was learnt in the end, by path."""
        return {path: tuple(rows[-1]) for path, rows in self.probabilities.items()}

    @property
    def digest(self) -> str:
        """Of what was learnt in the end: of equal ones the same search begins."""
        text = json.dumps([self.derived, self.final], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def weights(self) -> dict[str, tuple[float, ...]]:
        """`final` as `Space.sample(rng, weights=...)` takes it: above 0 everywhere."""
        return {path: tuple(max(value, FLOOR) for value in vector) for path, vector in self.final.items()}


def _check_vectors(path: str, rows: Sequence[Sequence[float]], num_steps: int) -> None:
    if len(rows) != num_steps:
        raise NasError(f"{path} has probabilities at {len(rows)} steps of {num_steps}; give one vector for each step")
    for vector in rows:
        if len(vector) != len(rows[0]):
            raise NasError(f"{path} has vectors of {len(rows[0])} and of {len(vector)} options; give one length")
        if not all(0 <= value <= 1 + TOLERANCE for value in vector) or abs(sum(vector) - 1) > TOLERANCE:
            shown = ", ".join(f"{value:.3g}" for value in vector)
            raise NasError(f"{path} has probabilities ({shown}); give numbers from 0 to 1 that sum to 1")


def _is_object(text: str) -> bool:
    from search_spaces.reading import MalformedError, json_value

    try:
        return isinstance(json_value(text), dict)
    except MalformedError:
        return False


def _plain_metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Floats in place of ints, numpy scalars and one-element tensors."""
    plain = {}
    for name, value in metrics.items():
        try:
            if isinstance(value, str):
                raise TypeError("text is no metric, even where it spells a number")
            plain[str(name)] = float(value)
        except (TypeError, ValueError, OverflowError) as error:
            rule = "an evaluator returns one number for each metric"
            raise NasError(f"metric {name!r} is {value!r}, not a number; {rule}") from error
    return plain


def _storable(text: str) -> str:
    """Text every database takes: PostgreSQL refuses NUL, UTF-8 has no lone surrogates."""
    return text.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode("utf-8")
