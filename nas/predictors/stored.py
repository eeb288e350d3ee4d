"""Predictors as JSON: their inputs. A fit is a function of these, so loading refits."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import numpy as np

from nas.errors import NasError
from nas.predictors.kinds import OverRows
from nas.predictors.models import FloatArray
from nas.predictors.rows import Archs, Features, codes_of
from search_spaces import Space, SpaceError
from search_spaces.reading import MalformedError, json_object, require
from search_spaces.values import canonical

FORMAT = "nas predictor 1"
_KEYS = {"kind", "settings", "features", "space", "architectures", "values"}


@dataclass(frozen=True)
class Stored:
    """The inputs of a predictor.

    Args:
        kind: one of `PREDICTORS`.
        space: the space of its architectures.
        codes: the measured architectures, as `Space.codes` returns them.
        values: measured values, one per architecture.
        settings: keywords of the kind besides `space` and `features`, such as ``{"monotone": False}``.
        features: the name of the user's columns, "" if there are none; pass the function itself to `fitted`.
    """

    kind: str
    space: Space
    codes: tuple[tuple[int, ...], ...]
    values: tuple[float, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    features: str = ""

    @classmethod
    def of(
        cls,
        kind: str,
        space: Space,
        archs: Archs,
        y: Sequence[float] | FloatArray,
        settings: Mapping[str, Any] | None = None,
        features: str = "",
    ) -> "Stored":
        """Make a stored predictor from architectures and values as `fit` accepts them."""
        codes = tuple(tuple(row) for row in codes_of(space, archs).tolist())
        return cls(kind, space, codes, tuple(float(value) for value in y), dict(settings or {}), features)

    def fitted(self, features: Features | None = None) -> OverRows:
        """Return the fitted predictor; raise NasError if `features` is missing, or passed although it had none."""
        if bool(self.features) != (features is not None):
            told = f"was made with the features {self.features!r}" if self.features else "was made without features"
            raise NasError(f"this predictor {told}; load it with the same")
        predictor = _kind(self.kind, self.settings)(self.space, features=features, **self.settings)
        codes = np.array(self.codes, dtype=np.int16).reshape(len(self.codes), len(self.space.slots))
        predictor.fit(codes, self.values)
        return predictor


def dumps(stored: Stored) -> str:
    """Return one line of JSON; equal predictors have equal text."""
    body = {
        "kind": stored.kind,
        "settings": dict(stored.settings),
        "features": stored.features,
        "space": stored.space.digest,
        "architectures": [list(row) for row in stored.codes],
        "values": list(stored.values),
    }
    return canonical({"format": FORMAT, "digest": _digest(body), **body})


def loads(text: str, space: Space) -> Stored:
    """Read the text that `dumps` wrote; `.fitted()` returns the predictor.

    Raises:
        NasError: the text is damaged, is not a stored predictor, or belongs to another space.
    """
    body = _body(text)
    if body["space"] != space.digest:
        raise NasError(
            f"this predictor belongs to the space {body['space']}, not to {space.name} ({space.digest}); "
            "load it with its own space, or measure and fit again"
        )
    _kind(body["kind"], body["settings"])
    codes, values = body["architectures"], body["values"]
    if len(codes) != len(values):
        raise NasError("the stored predictor does not have one value per architecture; fit and store it again")
    if not all(type(v) in (int, float) and math.isfinite(v) for v in values):
        raise NasError("the stored predictor has a value that is not a finite number; fit and store it again")
    try:
        archs = space.codes(space.decode(np.array(codes).reshape(len(codes), -1)))
    except (SpaceError, ValueError) as error:
        raise NasError(f"the stored predictor holds no architectures of {space.name} ({error}); fit it again") from None
    return Stored.of(body["kind"], space, archs, values, body["settings"], body["features"])


def _body(text: str) -> dict[str, Any]:
    """Return the content after checking its form and digest."""
    try:
        body = json_object(text)
    except MalformedError as error:
        raise NasError(f"the stored predictor {error}; fit and store it again") from None
    if body.pop("format", None) != FORMAT or set(body) != {*_KEYS, "digest"}:
        raise NasError(f"this is not a stored predictor of the format {FORMAT!r}; give the text that `dumps` wrote")
    digest = body.pop("digest")
    try:
        require(body, kind=str, settings=dict, features=str, space=str, architectures=list, values=list)
        whole = digest == _digest(body)
    except ValueError as error:  # also of numbers that are not finite
        raise NasError(f"the stored predictor {error}; fit and store it again") from None
    if not whole:
        raise NasError(f"the stored predictor is damaged: its digest is not {digest}; fit and store it again")
    return body


def _digest(body: Mapping[str, Any]) -> str:
    return sha256(canonical(body).encode()).hexdigest()[:16]


def _kind(name: str, settings: Mapping[str, Any]) -> Callable[..., OverRows]:
    """Return the class; raise NasError if the kind does not exist or has no such setting."""
    from nas.predictors import PREDICTORS  # here, because the package imports this module's neighbours

    if name not in PREDICTORS:
        raise NasError(f"there is no predictor {name!r}; the kinds are {', '.join(PREDICTORS)}")
    known = list(inspect.signature(PREDICTORS[name]).parameters)[2:]
    for setting in settings:
        if setting not in known:
            raise NasError(f"{name!r} has no setting {setting!r}; it has {', '.join(known) or 'none'}")
    return PREDICTORS[name]
