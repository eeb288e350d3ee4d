"""Search spaces as declarations: choices, the architectures they describe, and everything a search does with them.

Begin with `space.py`; the spaces that come ready-made are examples of declarations.

Importing this package loads none of its parts; a name is imported from its module on first use, so that whoever needs
only the errors never waits for numpy.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from search_spaces.architecture import Architecture
    from search_spaces.computation import Computation
    from search_spaces.computations import Computations, Primitive
    from search_spaces.declaration import Choice, Constraint, choice, constraint
    from search_spaces.derived import Derived, derive
    from search_spaces.ensemble import EnsembleSpace
    from search_spaces.errors import SpaceError, UserError
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
    "UserError",
    "ViTSpace",
    "choice",
    "constraint",
    "derive",
    "normal_form",
]

_MODULES = {
    "architecture": ("Architecture",),
    "computation": ("Computation",),
    "computations": ("Computations", "Primitive"),
    "declaration": ("Choice", "Constraint", "choice", "constraint"),
    "derived": ("Derived", "derive"),
    "ensemble": ("EnsembleSpace",),
    "errors": ("SpaceError", "UserError"),
    "gpt": ("GPTSpace",),
    "layers": ("LayerSpace",),
    "layout": ("Slot",),
    "mobilenet": ("MobileNetSpace",),
    "nasbench201": ("NASBench201Space",),
    "normal": ("NormalForm", "normal_form"),
    "rexnet": ("ReXNetSpace",),
    "space": ("Space",),
    "values": ("Json",),
    "vit": ("ViTSpace",),
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        module = next((module for module, names in _MODULES.items() if name in names), None)
        if module is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = found = getattr(import_module(f"{__name__}.{module}"), name)
        return found

    def __dir__() -> list[str]:
        return sorted([*globals(), *__all__])
