"""Layers that combine normalisation and activation, as graphs over primitives (EvoNorm, arXiv:2004.02967).

Built by `supernets.models.layers.GraphLayer`, which says what each primitive computes. A layer is a choice like any
other: ``layer = LayerSpace()``.
"""

from search_spaces.computations import Computations, Primitive

_AXES = ("bwh", "wh", "whc", "group")
_MOMENTS = tuple(Primitive(f"{moment}_{axes}", 1) for moment in ("mean", "std", "rms") for axes in _AXES)
_ELEMENTWISE = ("neg", "sigmoid", "tanh", "exp", "log", "abs", "square", "sqrt")

PRIMITIVES = (
    Primitive("add", 2, commutative=True),
    Primitive("mul", 2, commutative=True),
    Primitive("max", 2, commutative=True),
    Primitive("div", 2),
    *(Primitive(name, 1) for name in _ELEMENTWISE),
    *_MOMENTS,
)
"""Arithmetic, functions of single numbers, and moments over axes: the batch and space (bwh), space (wh), space and
channels (whc), space and the channels of a group (group)."""
VECTORS = ("v0", "v1")
"""Learned, one number per channel."""


class LayerSpace(Computations, primitives=PRIMITIVES, inputs=("x", "zero", "one", *VECTORS), nodes=14):
    """Graphs of at most 14 nodes over the input `x`, the constants 0 and 1 and two learned vectors."""
