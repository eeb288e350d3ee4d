"""Search spaces as declarations: choices, the architectures they describe, and everything a search does with them.

Begin with `space.py`; the spaces that come ready-made are examples of declarations.
"""

from search_spaces.architecture import Architecture
from search_spaces.computation import Computation
from search_spaces.computations import Computations, Primitive
from search_spaces.declaration import Choice, Constraint, choice, constraint
from search_spaces.derived import Derived, derive
from search_spaces.ensemble import EnsembleSpace
from search_spaces.errors import SpaceError
from search_spaces.gpt import GPTSpace
from search_spaces.layers import LayerSpace
from search_spaces.layout import Slot
from search_spaces.mobilenet import MobileNetSpace
from search_spaces.nasbench201 import NASBench201Space
from search_spaces.normal import NormalForm, normal_form
from search_spaces.rexnet import ReXNetSpace
from search_spaces.space import Space
from search_spaces.values import Json
from search_spaces.vit import ViTSpace

__all__ = [
    "Architecture",
    "Choice",
    "Computation",
    "Computations",
    "Constraint",
    "Derived",
    "EnsembleSpace",
    "GPTSpace",
    "Json",
    "LayerSpace",
    "MobileNetSpace",
    "NASBench201Space",
    "NormalForm",
    "Primitive",
    "ReXNetSpace",
    "Slot",
    "Space",
    "SpaceError",
    "ViTSpace",
    "choice",
    "constraint",
    "derive",
    "normal_form",
]
