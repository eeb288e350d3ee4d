"""What is compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from supernets.errors import SupernetError
from supernets.sharing import sharing
from supernets.spelling import Named, SpellingError, spell
from supernets.strategies import strategy

STRATEGIES = (
    "uniform",  # over=choices draws the same in these spaces, where no choice depends on another
    "fair",
    "sandwich(distil=none)",
    "sandwich",
    "sandwich(distil=alpha)",
    "progressive",
    "deps",
    "sorted",
    "pada",
    "attentive",
    "attentive(towards=worst)",
    "two-stage",
)
SHARINGS = (
    "entangled",
    "routed(experts=2)",
    "routed(experts=2, per=neuron)",
    "routed(experts=4)",
    "split",
    "balanced(models=4)",
    # multiplexed shares more rather than less: it is there to save memory
)
ENTANGLED = "entangled"


def strategies(texts: Sequence[str] = STRATEGIES) -> tuple[str, ...]:
    """The one spelling of each strategy; SpellingError with all that there are not."""
    return _spelled(texts, strategy)


def sharings(texts: Sequence[str] = SHARINGS) -> tuple[str, ...]:
    """The one spelling of each sharing; SpellingError with all that there are not."""
    return _spelled(texts, sharing)


def _spelled(texts: Sequence[str], parse: Callable[[str], Named]) -> tuple[str, ...]:
    found, errors = [], []
    for text in texts:
        try:
            found.append(spell(parse(text)))
        except SupernetError as error:
            errors.append(str(error))
    if errors:
        raise SpellingError("\n".join(errors))
    return tuple(dict.fromkeys(found))
