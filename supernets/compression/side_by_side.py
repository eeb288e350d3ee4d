"""Forward passes that pause at layers, so that several networks and batches advance layer by layer in step.

Each pass is a thread that runs only between a call of `advance` and its next stop; two never run at once. The cost is
one forward pass of each network on each batch, plus the memory that the paused passes hold.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from supernets.views import leaves


@dataclass
class Stop:
    """The state of a pass that is paused after a layer."""

    name: str
    given: Tensor
    """The layer's input."""
    made: Tensor
    """Its output."""
    rest: Tensor | None = None
    """The tensor to which the output is about to be added, if the pass is paused at that sum."""


@contextmanager
def watched(network: nn.Module, names: Collection[str]) -> Iterator[None]:
    """Make passes within this context pause after the layers with these names."""
    with ExitStack() as hooks:
        for name in names:
            handle = network.get_submodule(name).register_forward_hook(_watching(name))
            hooks.callback(handle.remove)
        yield


def _watching(name: str) -> Callable[[nn.Module, tuple[Any, ...], Tensor], Tensor | None]:
    def behind(layer: nn.Module, given: tuple[Any, ...], made: Tensor) -> Tensor | None:
        own = threading.current_thread()
        return own.behind(layer, Stop(name, given[0], made)) if isinstance(own, Pass) else None

    return behind


class Pass(threading.Thread):
    """One forward pass, which pauses after each watched layer until `advance`.

    Args:
        summed: names of layers for which the pass pauses only where their output is added to something.
    """

    def __init__(self, work: Callable[[], Any], summed: Collection[str] = ()) -> None:
        super().__init__(daemon=True)
        self.at: Stop | None = None
        """The current stop; None before the start and after the end."""
        self.uses = Uses(self)
        self.summed = summed
        self._work = work
        self._error: BaseException | None = None
        self._go, self._there = threading.Semaphore(0), threading.Semaphore(0)
        self._anew = self._left = False

    def advance(self, anew: bool = False) -> Stop | None:
        """Continue to the next stop and return it; None at the end of the pass.

        Args:
            anew: run the layer of the current stop again first, because its weights changed.

        Raises:
            whatever the pass raises.
        """
        self._anew = anew
        if self.ident is None:
            self.start()
        else:
            self._go.release()
        self._there.acquire()
        if self._error is not None:
            raise self._error
        return self.at

    def leave(self) -> None:
        """End the pass at its current stop."""
        if self.at is not None:
            self._left = True
            self._go.release()
            self.join()

    # --- in the thread itself

    def run(self) -> None:
        try:
            with torch.no_grad(), self.uses:
                self._work()
        except _Left:
            pass
        except BaseException as error:
            self._error = error
        self.at = None
        self._there.release()

    def behind(self, layer: nn.Module, stop: Stop) -> Tensor | None:
        """Pause after a layer, now or where its output is added; return its new output, or None if unchanged."""
        self.uses.follow(layer, stop, keep=stop.name in self.summed)
        return None if stop.name in self.summed else self.stand(layer, stop)

    def stand(self, layer: nn.Module, stop: Stop) -> Tensor | None:
        """Wait for `advance`; return the layer's new output if it is to run again, else None."""
        self.at = stop
        self._there.release()
        self._go.acquire()
        if self._left:
            raise _Left
        return layer.forward(stop.given) if self._anew else None


class _Left(BaseException):
    """Ends an abandoned pass."""


@dataclass
class _Followed:
    """An output of a layer, kept in memory only if the pass is to pause at its sum."""

    name: str
    made: weakref.ref[Tensor]
    version: int
    """Version counter of the output, which in-place changes increase."""
    number: int
    kept: tuple[nn.Module, Stop] | None

    @property
    def changed(self) -> bool:
        made = self.made()
        return made is None or made._version != self.version


class Uses(TorchFunctionMode):
    """Tracks whether outputs of watched layers are only added to something during a pass, or used otherwise."""

    def __init__(self, own: Pass) -> None:
        super().__init__()
        self.order: list[tuple[str, bool]] = []
        """Layers in execution order, with False; again with True where their output was added to a tensor of the same
        shape."""
        self.otherwise: set[str] = set()
        """Layers whose output had another use."""
        self._own = own
        self._followed: dict[int, _Followed] = {}

    def follow(self, layer: nn.Module, stop: Stop, keep: bool) -> None:
        """Track the output of a layer that has run."""
        self._followed[id(stop.made)] = _Followed(
            stop.name, weakref.ref(stop.made), stop.made._version, len(self.order), (layer, stop) if keep else None
        )
        self.order.append((stop.name, False))

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        mine = {id(one): own for one in leaves([*args, *given.values()]) if (own := self._known(one)) is not None}
        if mine and _is_sum(func, args, given):
            last = max(mine, key=lambda one: mine[one].number)
            args = self._at_sum(mine.pop(last), last, args)
        found = func(*args, **given)
        made = {id(one) for one in leaves(found)}
        for one, own in mine.items():
            if made - {one} or own.changed:  # dropout in evaluation mode returns its input
                self.otherwise.add(own.name)
        return found

    def _known(self, one: Tensor) -> _Followed | None:
        own = self._followed.get(id(one))
        return own if own is not None and own.made() is one else None

    def _at_sum(self, own: _Followed, last: int, args: Sequence[Any]) -> Sequence[Any]:
        """Return the arguments of the sum, with the layer's new output if its weights have changed."""
        self.order.append((own.name, True))
        if own.kept is None:
            return args
        layer, stop = own.kept
        stop.rest = next(one for one in args if id(one) != last)
        new = self._own.stand(layer, stop)
        del self._followed[last]
        return args if new is None else [new if id(one) == last else one for one in args]


def _is_sum(func: Callable[..., Any], args: Sequence[Any], given: Mapping[str, Any]) -> bool:
    """Return whether a call adds two different tensors of the same shape."""
    if getattr(func, "__name__", "") not in ("add", "add_") or len(args) != 2 or given:
        return False
    one, other = args
    return isinstance(one, Tensor) and isinstance(other, Tensor) and one is not other and one.shape == other.shape
