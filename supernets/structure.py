"""The two words a model may borrow from us: a stack of choosable depth and one operation out of several.

Both are ordinary modules with nothing hidden in `forward`. They only say in the module tree what plain PyTorch leaves
unsaid, so that a supernet can name the weights of alternatives apart and a relaxation can find the blocks it gates.
Pure torch: a model that uses them runs wherever this one file does.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

from torch import nn


class Stack(nn.Sequential):
    """Blocks run in order, of which an architecture keeps the first `depth`: an `nn.Sequential`, with the same names.

    Being its own class marks it: the blocks are alternatives in depth, each keeping the shape of its input, so a
    relaxation may gate what each adds. An empty stack is the identity.
    """


class OneOf(nn.Module):
    """One operation chosen out of several, held under its own name: its parameters are called `<path>.<chosen>...`.

    `options` lists the names of all alternatives in the order they were given; the others were never built.
    """

    def __init__(self, chosen: str, operation: nn.Module, options: tuple[str, ...]) -> None:
        super().__init__()
        self.chosen = chosen
        self.options = options
        self.add_module(chosen, operation)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return cast(nn.Module, self._modules[self.chosen])(*args, **kwargs)

    def extra_repr(self) -> str:
        return f"one of {', '.join(self.options)}"


def stack(blocks: Iterable[nn.Module]) -> Stack:
    """Make a stack of the blocks an architecture has, in order; each must return what the next one takes."""
    return Stack(*blocks)


def one_of(chosen: str, options: Mapping[str, Callable[[], nn.Module]]) -> OneOf:
    """Build the chosen alternative, and only that one.

    Its parameters live under its name (`ops.3.conv3x3.weight`), so alternatives never share weights by accident.

    Raises:
        ValueError: `chosen` is not among the options, or cannot be part of a parameter's name.
    """
    if chosen not in options:
        raise ValueError(f"one_of: {chosen!r} is not an option: choose one of {', '.join(options)}")
    if not isinstance(chosen, str) or not chosen or "." in chosen or hasattr(OneOf, chosen) or chosen in _RESERVED:
        raise ValueError(f"one_of: {chosen!r} cannot name a submodule: use a name without dots that is no attribute")
    return OneOf(chosen, options[chosen](), tuple(options))


_RESERVED = frozenset({"chosen", "options", "training"})
