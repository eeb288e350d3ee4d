"""Widths on a line (ReXNet, arXiv:2007.00992): three numbers in place of a choice for each block.

Networks whose widths grow in steps, stage by stage, limit the rank of what their expanding layers compute; widths that
grow evenly do not. `linear_widths` is the line; built by `supernets.models.rexnet.build`.
"""

from search_spaces.declaration import choice
from search_spaces.derived import derive
from search_spaces.space import Space


def linear_widths(start: float, slope: float, multiplier: float, blocks: int, divisor: int = 1) -> list[int]:
    """The widths of `blocks` blocks, block i having ``multiplier * (start + i * slope / blocks)``.

    A multiplier below 1 does not make the first block narrower than `start`. Widths are rounded to multiples of
    `divisor`, and are at least one.
    """
    first = start / min(1, multiplier)
    exact = [multiplier * (first + block * slope / blocks) for block in range(blocks)]
    return [max(divisor, divisor * round(width / divisor)) for width in exact]


class ReXNetSpace(Space):
    """The 16 blocks of ReXNet: start 16, slope 180 and multipliers from 0.9 to 2.0 are the published networks.

    For another number of blocks or other sizes subclass, and derive `widths` anew.
    """

    start = choice(12, 16, 20)
    slope = choice(120, 180, 240)
    multiplier = choice(0.9, 1.0, 1.3, 1.5, 2.0)

    @derive
    def widths(start: int, slope: int, multiplier: float) -> list[int]:
        return linear_widths(start, slope, multiplier, blocks=16)

    @derive
    def stem(multiplier: float) -> int:
        return round(32 * max(1, multiplier))

    @derive
    def head(multiplier: float) -> int:
        return round(1280 * multiplier)
