"""Predictors as data: equal after loading, and clear words for what cannot be loaded."""

import json
from typing import Any

import numpy as np
import pytest

from nas.errors import NasError
from nas.predictors import PREDICTORS, Archs
from nas.predictors.stored import Stored, dumps, loads
from search_spaces import NASBench201Space
from search_spaces.values import canonical
from tests.contracts.predictor import Stages, latency_ms

SPACE = Stages()
ARCHS = SPACE.sample_many(12, np.random.default_rng(0), distinct=True)
VALUES = [latency_ms(arch) for arch in ARCHS]


@pytest.mark.parametrize("kind", ["additive", "ridge", "ensemble"])
def test_what_is_loaded_predicts_as_what_was_stored(kind: str) -> None:
    text = dumps(Stored.of(kind, SPACE, ARCHS, VALUES))
    first = PREDICTORS[kind](SPACE)
    first.fit(ARCHS, VALUES)
    loaded = loads(text, SPACE)
    assert dumps(loaded) == text
    for a, b in zip(first.predict(ARCHS), loaded.fitted().predict(ARCHS), strict=True):
        np.testing.assert_array_equal(a, b)


def test_settings_and_features_are_kept() -> None:
    def cost(archs: Archs) -> np.ndarray:
        return np.ones((len(archs), 1))

    text = dumps(Stored.of("additive", SPACE, SPACE.codes(ARCHS), VALUES, {"monotone": False}, features="cost"))
    loaded = loads(text, SPACE)
    assert loaded.settings == {"monotone": False}
    with pytest.raises(NasError, match="made with the features 'cost'; load it with the same"):
        loaded.fitted()
    assert loaded.fitted(cost).features is cost
    with pytest.raises(NasError, match="made without features"):
        Stored.of("ridge", SPACE, ARCHS, VALUES).fitted(cost)


def forged(**changes: Any) -> str:
    """Stored text of other content, with a digest that is right for it."""
    from nas.predictors.stored import _digest

    body = json.loads(dumps(Stored.of("additive", SPACE, ARCHS, VALUES))) | changes
    form = body.pop("format")
    del body["digest"]
    return canonical({"format": form, "digest": _digest(body), **body})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not JSON"),
        (dumps(Stored.of("ridge", SPACE, ARCHS, VALUES))[:-9], "not JSON"),
        (dumps(Stored.of("ridge", SPACE, ARCHS, VALUES)).replace('"ridge"', '"mlp"'), "damaged"),
        (
            dumps(Stored.of("ridge", SPACE, ARCHS, VALUES)).replace("predictor 1", "predictor 9"),
            "not a stored predictor",
        ),
        ("[1, 2]", "not a JSON object"),
        ('{"a": NaN}', "not a stored predictor"),
        (dumps(Stored.of("ridge", SPACE, ARCHS, VALUES)).replace(str(VALUES[0]), "NaN"), "not JSON compliant"),
        (forged(settings=[]), r"has \[\] as 'settings', which must be an object"),
        ("[" * 100_000, "nested deeper"),
        (forged(kind="oracle"), "no predictor 'oracle'; the kinds are additive,"),
        (forged(settings={"depth": 3}), "has no setting 'depth'; it has monotone"),
        (forged(values=VALUES[1:]), "not have one value per"),
        (forged(values=["1.0"] * 12), "not a finite number"),
        (forged(architectures=[[99] * len(SPACE.slots)] * 12), "holds no architectures of Stages"),
        (forged(architectures=[[0]] * 12), "holds no architectures of Stages"),
    ],
)
def test_what_cannot_be_loaded(text: str, words: str) -> None:
    with pytest.raises(NasError, match=words) as caught:
        loads(text, SPACE)
    assert "\n" not in str(caught.value)


def test_a_predictor_of_another_space() -> None:
    with pytest.raises(NasError, match=f"not to NASBench201Space .{NASBench201Space().digest}."):
        loads(dumps(Stored.of("ridge", SPACE, ARCHS, VALUES)), NASBench201Space())
