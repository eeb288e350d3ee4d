"""The axes of a layer's weight that correspond to its inputs and its outputs."""

from torch import nn

from supernets.joined import joined

Ends = tuple[int | None, int | None]
"""Axes of the inputs and of the outputs."""


def ends(module: nn.Module) -> dict[str, Ends]:
    """Return the input and output axes of each layer's weight; None for the axis that groups divide."""
    found: dict[str, Ends] = {}
    for path, owner in module.named_modules(remove_duplicate=False):
        name = f"{path}.weight" if path else "weight"
        if isinstance(owner, nn.modules.conv._ConvNd):
            fast = None if owner.groups > 1 else 1
            found[name] = (0, fast) if owner.transposed else (fast, 0)
        elif isinstance(owner, nn.Linear):
            found[name] = (1, 0)
        elif type(owner).__name__ == "Conv1D" or isinstance(owner, nn.Embedding):
            found[name] = (0, 1)
    for whole, _, parts in joined(module):
        found |= dict.fromkeys(parts, found[whole]) if whole in found else {}
    return found
