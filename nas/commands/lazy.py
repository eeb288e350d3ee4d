"""Modules that are loaded when something of them is first used: help and mistakes need not wait for a database."""

from __future__ import annotations

import sys
from importlib import util
from types import ModuleType


def lazily(name: str) -> ModuleType:
    """The module of this name, which runs when an attribute of it is first asked for.

    Raises:
        ModuleNotFoundError: there is none.
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
