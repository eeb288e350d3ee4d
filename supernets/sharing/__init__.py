"""The methods of weight sharing; `sharing` parses one from text."""

from supernets.sharing.balanced import Balanced
from supernets.sharing.base import Entangled, Ground, Sharing, Weights
from supernets.sharing.lowrank import LowRank
from supernets.sharing.multiplexed import Multiplexed
from supernets.sharing.routed import Routed
from supernets.sharing.split import Split
from supernets.spelling import parse

__all__ = [
    "SHARINGS",
    "Balanced",
    "Entangled",
    "Ground",
    "LowRank",
    "Multiplexed",
    "Routed",
    "Sharing",
    "Split",
    "Weights",
    "sharing",
]

SHARINGS: dict[str, type[Sharing]] = {
    method.name: method for method in (Entangled, Multiplexed, Routed, Split, Balanced, LowRank)
}


def sharing(text: str) -> Sharing:
    """Return the sharing that a text names, such as ``entangled``.

    Raises:
        SpellingError: the text names no sharing or setting; the message lists the known ones.
    """
    return parse(text, SHARINGS, "sharing")
