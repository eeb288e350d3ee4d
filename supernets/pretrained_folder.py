"""Write the transformers model within a network as a folder that its own class opens with `from_pretrained`.

A searched network has another config, or blocks that were narrowed after the model was built. Such a folder holds one
config, so the format exists only if one config describes all blocks: the code reads sizes from the network, puts them
into the config, and requires that the resulting model has exactly the network's parameters.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from supernets.errors import SupernetError

FOLDER = "transformers"
Shapes = dict[str, tuple[int, ...]]


class NotUniformError(SupernetError):
    """No single config describes the network, or the network contains no transformers model."""


def within(network: nn.Module) -> tuple[str, nn.Module] | None:
    """Return the path and the outermost transformers model of a network; None if it contains none."""
    library = sys.modules.get("transformers")  # a network of one of its classes has imported it
    if library is None:
        return None
    found = ((path, own) for path, own in network.named_modules() if isinstance(own, library.PreTrainedModel))
    return next(found, None)


def config_of(network: nn.Module) -> Any:
    """Return the config that describes the model within a network, found from shapes alone.

    Raises:
        NotUniformError: the network contains no such model, or no config describes it.
    """
    found = within(network)
    if found is None:
        raise NotUniformError(f"{type(network).__name__} holds no model of transformers: leave the format {FOLDER} out")
    model = found[1]
    return _described(model, {name: tuple(tensor.shape) for name, tensor in _renumbered(model).items()})


def standard(network: nn.Module) -> nn.Module:
    """Return the model within a network, rebuilt by its class from the config that describes it.

    Raises:
        NotUniformError: as `config_of`.
    """
    config = config_of(network)
    found = within(network)
    assert found is not None
    model: Any = found[1]
    state = _renumbered(model)
    fresh = type(model)(config)
    dtypes = {tensor.dtype for tensor in state.values() if tensor.is_floating_point()}
    if len(dtypes) == 1:
        fresh = fresh.to(*dtypes)
    fresh.load_state_dict(state)
    fresh.tie_weights()
    return fresh.eval()  # type: ignore[no-any-return]


def write(folder: Path, network: nn.Module) -> nn.Module:
    """Write `folder`; return the network with its model replaced by the one that `from_pretrained` opens.

    Raises:
        NotUniformError: see `standard`.
    """
    model: Any = standard(network)
    with _quiet():
        model.save_pretrained(folder)
        opened = type(model).from_pretrained(folder, local_files_only=True, dtype=model.dtype).eval()
    found = within(network)
    assert found is not None
    if not found[0]:
        return opened  # type: ignore[no-any-return]
    replaced = copy.deepcopy(network)
    parent, _, leaf = found[0].rpartition(".")
    setattr(replaced.get_submodule(parent), leaf, opened)
    return replaced


def _renumbered(model: nn.Module) -> dict[str, Tensor]:
    """Return the model's state dict, with the blocks of every list renumbered from 0 after removals."""
    state = model.state_dict()
    for path, blocks in model.named_modules():
        if isinstance(blocks, nn.ModuleList) and list(blocks._modules) != [str(i) for i in range(len(blocks))]:
            for place, old in enumerate(list(blocks._modules)):
                before, after = f"{path}.{old}.", f"{path}.{place}."
                state = {
                    after + name[len(before) :] if name.startswith(before) else name: t for name, t in state.items()
                }
    return state


def _described(model: Any, shapes: Shapes) -> Any:
    """Return a config whose model has these shapes, by greedy replacement of fields in the model's own config."""
    config = copy.deepcopy(model.config)
    apart = _apart(_shapes_of(type(model), config), shapes)
    while apart:
        changed = [_counted(config, model, shapes), *_resized(config, _shapes_of(type(model), config), shapes)]
        left = [_apart(_shapes_of(type(model), one), shapes) for one in changed]
        if min(left) >= apart:
            shown = _first_difference(shapes, _shapes_of(type(model), config))
            raise NotUniformError(
                f"{shown}: no config of {type(model).__name__} says that, since blocks differ or heads do not fill the "
                f"width; leave the format {FOLDER} out"
            )
        config, apart = changed[left.index(min(left))], min(left)
    return config


def _shapes_of(cls: Any, config: Any) -> Shapes:
    try:
        with torch.device("meta"):
            model = cls(copy.deepcopy(config))
    except ValueError:  # the class rejects this combination of sizes
        return {}
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def _apart(one: Shapes, other: Shapes) -> int:
    """Return the number of parameters whose shapes differ."""
    return sum(one.get(name) != other.get(name) for name in one.keys() | other.keys())


def _counted(config: Any, model: nn.Module, shapes: Shapes) -> Any:
    """Return the config with the actual number of blocks in each list of the model, and per-block lists shortened."""
    changed = copy.deepcopy(config)
    expected = _shapes_of(type(model), config)
    for path, blocks in model.named_modules():
        had, has = _length(path, expected), _length(path, shapes)
        if not isinstance(blocks, nn.ModuleList) or had == has:
            continue
        for name, value in list(vars(changed).items()):
            if "layer" in name and type(value) is int and value == had:
                setattr(changed, name, has)
            elif isinstance(value, list) and len(value) == had:
                setattr(changed, name, [value[int(kept)] for kept in blocks._modules])
    return changed


def _length(path: str, shapes: Mapping[str, Any]) -> int:
    return len({name[len(path) + 1 :].partition(".")[0] for name in shapes if name.startswith(f"{path}.")})


def _resized(config: Any, expected: Shapes, shapes: Shapes) -> Iterator[Any]:
    """Yield configs with one field replaced: a size or a count of heads, by a value that some shape suggests."""
    pairs = {
        (old, new)
        for name in expected.keys() & shapes.keys()
        for old, new in zip(expected[name], shapes[name], strict=False)
        if old != new
    }
    for name, value in list(vars(config).items()):
        if type(value) is not int or value < 1:
            continue
        for old, new in sorted(pairs):
            if value == old or ("heads" in name and value * new % old == 0 and value * new // old > 0):
                changed = copy.deepcopy(config)
                setattr(changed, name, new if value == old else value * new // old)
                yield changed


def _first_difference(shapes: Shapes, expected: Shapes) -> str:
    for name in sorted(shapes.keys() | expected.keys()):
        if shapes.get(name) != expected.get(name):
            has, says = shapes.get(name, "absent"), expected.get(name, "absent")
            return f"{name} is {has} in the network and {says} by its config"
    return "its parameters differ"  # pragma: no cover - called where they differ


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the library's progress bars and messages, which are irrelevant for this round trip."""
    from transformers import utils

    logging: Any = utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
