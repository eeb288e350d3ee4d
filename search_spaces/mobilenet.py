"""A MobileNet-like space: per stage a width and a depth, per block a kernel and an expansion.

Built by `supernets.models.mobilenet.build`. For other sizes narrow it (`where`), or subclass both classes.
"""

from search_spaces.declaration import choice
from search_spaces.space import Space


class MobileNetStage(Space):
    """A stage of inverted residual blocks; its first block sets width and resolution."""

    width = choice(8, 12, 16, 24, 32, 48, 64)
    depth = choice(1, 2, 3, 4)
    kernel = choice(3, 5, 7, per="depth")
    expansion = choice(2, 3, 4, 6, per="depth")


class MobileNetSpace(Space):
    """Three stages between a stem and a head, which are given in channels."""

    stem = choice(8, 12, 16)
    stages = choice(MobileNetStage(), per=3)
    head = choice(32, 48, 64, 96, 128)


def digits_space() -> MobileNetSpace:
    """The part of the space that suits images of 8x8 pixels: stages grow in width, and kernels fit the images."""
    return MobileNetSpace(
        **{
            "stages.0.width": (8, 12, 16),
            "stages.1.width": (12, 16, 24),
            "stages.2.width": (16, 24, 32),
            "stages.depth": (1, 2),
            "stages.kernel": (3, 5),
            "stages.expansion": (2, 3, 4),
            "head": (32, 64),
        }
    )
