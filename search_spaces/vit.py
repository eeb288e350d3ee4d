"""Vision Transformers: a width and a depth, and for each block its heads and the ratio of its MLP.

Built by `supernets.models.vit.build`. For other sizes subclass and declare the choices anew.
"""

from search_spaces.declaration import choice
from search_spaces.space import Space


class ViTSpace(Space):
    """Small ones, for images of 8 to 28 pixels and heads of 16 features."""

    width = choice(32, 48, 64)
    depth = choice(2, 3, 4)
    heads = choice(1, 2, 3, 4, per="depth")
    ratio = choice(1, 2, 3, 4, per="depth")


class AutoFormerTinySpace(ViTSpace):
    """The sizes of AutoFormer-T (arXiv:2107.00651), for heads of 64 features."""

    width = choice(192, 216, 240)
    depth = choice(12, 13, 14)
    heads = choice(3, 4, per="depth")
    ratio = choice(3.5, 4, per="depth")
