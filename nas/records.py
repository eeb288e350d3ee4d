"""Records: the frozen values, in plain Python, that are stored and passed between modules, independent of any database.

Dictionaries called `settings`, `declaration`, `description` or `conditions` contain JSON values; the database returns a
stored tuple as a list. Times are ISO 8601 strings in UTC. Digests are lower-case hexadecimal strings.
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
TOLERANCE = 1e-4  # allowed deviation of a sum of probabilities from 1: they were float32
FLOOR = 1e-12  # smallest probability when sampling architectures: `Space.sample` requires weights above 0


def now() -> str:
    """Return the current time in UTC in the format of the records: `2026-01-31T12:00:00+00:00`."""
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
    """One search: objectives, limits, searcher and seed.

    `supernet_digest` is None for a study that trains or looks up each network separately; `run_file` is the Python file
    that started the study, if any; `status` is free text such as "running" or "finished"; `wanted` is the number of
    evaluations last requested, None before that.

    Raises:
        NasError: the name is blank or unprintable, there is no objective, or databases cannot store the seed.
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
            raise NasError(f"a study's name is {self.name!r}; give a name of printable characters")
        if not self.objectives:
            raise NasError(f"study {self.name!r} has no objective; name at least one metric to minimise")
        if not 0 <= self.seed < 2**63:
            raise NasError(f"the seed of study {self.name!r} is {self.seed}; give one from 0 to 2**63 - 1")


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The metrics of one architecture, or the reason why there are none.

    Metric values become plain floats. NaN and infinity cannot be ranked or stored in JSON, so they turn the evaluation
    into a failed one that says so. The constructor does this, so a searcher receives the same values live as when a
    study is replayed from the database.

    Raises:
        NasError: there are both metrics and an error, or a metric is not a number.
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
    """How an architecture was proposed, in a few words, and the digests of its parents."""

    how: str
    parents: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Life:
    """When a study stored an evaluation, in seconds since 1970 by the database's clock, and the network's origin.

    Both are None if unknown. No result depends on them.
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
    """A machine on which latencies are measured, in its current state: another fingerprint is another version.

    `kind` and `settings` recreate the target (`nas.targets.build`); `description` is its fingerprint: processor,
    threads, precision, versions of libraries. Latencies of one version are comparable.
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
        """The machine in words: device, processor or table, threads, precision; "" if unknown."""
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
"""Built-in targets: one thread of this machine, with PyTorch and with ONNX Runtime."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """The latency of one extracted network on one version of a target; `architecture` is its canonical JSON.

    `network` is a fingerprint of everything that the choices do not determine: two runs may build different networks.
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
    """Peak bytes of weights, inputs and activations; None if the target cannot measure them."""
    energy_mj: float | None = None
    """Millijoules of one pass; None if the machine has no readable counter."""
    notes: tuple[str, ...] = ()
    """Warnings in words."""
    created: str = field(default_factory=now)


@dataclass(frozen=True, slots=True)
class PredictorRecord:
    """A latency predictor as data: `content` holds the measurements, and a fit is deterministic.

    There is one per version of a target, space and kind of network (`network`: see `Measurement`).
    """

    target: str
    version: str
    space_digest: str
    network: str
    kind: str
    """One of `nas.predictors.PREDICTORS`."""
    quality: dict[str, Any]
    """Quality on held-out measurements: the fields of `nas.predictors.quality.Quality`."""
    content: str
    """JSON of `nas.predictors.stored`."""
    warnings: tuple[str, ...] = ()
    created: str = field(default_factory=now)


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """A point on a training curve; `value` is NaN or infinite for a diverged training."""

    step: int
    which: Which
    metric: str
    value: float


@dataclass(frozen=True, slots=True)
class Trust:
    """A trust report: how far a supernet's ranking agrees with a few stand-alone trainings.

    The figures have the names and meanings of `supernets.ranking.RankingReport`; None if undetermined. The database
    stores them as JSON. `gaps`, `baselines` and `rows` hold one dictionary for each third by size, each ranking by
    size, and each architecture.
    """

    verdict: str
    """One or two sentences for display."""
    level: Level
    """The verdict as a level, for a colour or a symbol."""
    banner: str = ""
    """A warning to show first; usually empty."""
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
    """Steps of each stand-alone training."""
    share: float | None = None
    """Cost of the stand-alone trainings, as a share of the cost of training the supernet."""
    seconds: float = 0.0
    """Duration of the stand-alone trainings."""
    warm: bool = False
    """Whether the trainings started from inherited weights."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """The result of a gradient search: a probability for every option of every choice, recorded over its steps.

    An inactive choice is not part of an architecture, so probabilities are conditional on the choice being active.
    Numbers become plain floats in tuples, so a distribution equals the one that the database returns.

    Raises:
        NasError: the steps do not ascend, a choice has no vector for one of them, vectors have different lengths or do
            not sum to 1, or the derived architecture is not a JSON object.
    """

    study: str
    """Name of the study for which it was learned; empty if it belongs to none."""
    method: str
    """The method with its settings: "drnas(concentration=1.0)"."""
    label: str
    """Distinguishes several distributions of one search, as in "cpu 0.25"; empty if there is only one."""
    steps: tuple[int, ...]
    """The recorded steps, ascending; the last is the end."""
    probabilities: Mapping[str, Sequence[Sequence[float]]]
    """By path of a choice: for each of `steps`, one probability per option of the declaration."""
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
        """The final probabilities, by path."""
        return {path: tuple(rows[-1]) for path, rows in self.probabilities.items()}

    @property
    def digest(self) -> str:
        """Digest of the final probabilities and the derived architecture: equal digests start equal searches."""
        text = json.dumps([self.derived, self.final], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def weights(self) -> dict[str, tuple[float, ...]]:
        """Return `final` for `Space.sample(rng, weights=...)`: above 0 everywhere."""
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
    """Convert ints, numpy scalars and one-element tensors to floats."""
    plain = {}
    for name, value in metrics.items():
        try:
            if isinstance(value, str):
                raise TypeError("text is not a metric, even if it spells a number")
            plain[str(name)] = float(value)
        except (TypeError, ValueError, OverflowError) as error:
            rule = "an evaluator returns one number for each metric"
            raise NasError(f"metric {name!r} is {value!r}, not a number; {rule}") from error
    return plain


def _storable(text: str) -> str:
    """Escape characters that a database refuses: NUL in PostgreSQL, lone surrogates in UTF-8."""
    return text.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode("utf-8")
