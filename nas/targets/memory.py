"""Measures the memory of a forward pass's tensors, operation by operation."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def peak_bytes(run: Callable[[], object]) -> int:
    """Run a pass and return the peak bytes of the tensors that it makes.

    Existing tensors (weights, inputs) do not count, nor does scratch memory within an operation, which PyTorch does not
    report on a CPU.
    """
    watch = _Watch()
    with watch:
        run()
    return watch.peak


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sums the storages that operations make, each until it is freed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._held = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        for leaf in tree_leaves((args, kwargs)):
            self._see(leaf, new=False)
        found = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(found):
            self._see(leaf, new=True)
        return found

    def _see(self, value: Any, *, new: bool) -> None:
        if not isinstance(value, Tensor):
            return
        storage = value.untyped_storage()  # the same object as long as any tensor uses it
        if id(storage) not in self._seen:
            size = storage.nbytes() if new else 0
            self._seen.add(id(storage))
            self._held += size
            self.peak = max(self.peak, self._held)
            weakref.finalize(storage, self._let_go, id(storage), size)

    def _let_go(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self._held -= size
