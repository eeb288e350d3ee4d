"""The ways to share weights; `sharing` finds one by its text."""

from supernets.sharing.base import Entangled, Ground, Reading, Sharing, Weights
from supernets.spelling import parse

__all__ = ["SHARINGS", "Entangled", "Ground", "Reading", "Sharing", "Weights", "sharing"]

SHARINGS: dict[str, type[Sharing]] = {method.name: method for method in (Entangled,)}


def sharing(text: str) -> Sharing:
    """The sharing that a text names, such as ``entangled``.

    Raises:
        SpellingError: listing what there is.
    """
    return parse(text, SHARINGS, "sharing")
