"""Search spaces as declarations: choices, the architectures they describe, and everything a search does with them."""

from search_spaces.architecture import Architecture
from search_spaces.declaration import Choice, Constraint, choice, constraint
from search_spaces.errors import SpaceError
from search_spaces.layout import Slot
from search_spaces.space import Space
from search_spaces.values import Json

__all__ = ["Architecture", "Choice", "Constraint", "Json", "Slot", "Space", "SpaceError", "choice", "constraint"]
