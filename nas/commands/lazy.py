"""Loads modules on first use, so that help and error messages need not wait for a database library."""

from __future__ import annotations

import sys
from importlib import util
from types import ModuleType


def lazily(name: str) -> ModuleType:
    """Return the module of this name, which is executed on the first access to an attribute.

    Raises:
        ModuleNotFoundError: the module does not exist.
    """
    if name in sys.modules:
        return sys.modules[name]
    spec = util.find_spec(name)
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(f"no module named {name!r}", name=name)
    spec.loader = util.LazyLoader(spec.loader)
    module = util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    parent, _, child = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, module)
    return module
