"""`nas propose`: writes a run file for a pretrained model, which the user then edits.

The model is a folder of transformers, or a function that returns a module: a model of transformers, or any module
whose sizes are arguments of the function, whole numbers with defaults.
"""

from __future__ import annotations

import importlib
import inspect
import os
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from nas.errors import NasError
from nas.run_file import executed
from search_spaces.reading import MalformedError, file_bytes, json_object
from supernets.apart import looked_at
from supernets.errors import SupernetError
from supernets.joined import whole
from supernets.opening import missing_names
from supernets.proposal_text import Parent, build_text, text
from supernets.proposing import Dimension, admitted, propose, shares, skeleton
from supernets.skeleton import build_skeleton


class ProposalError(NasError):
    """No space can be proposed for a model; the message names the remedy."""


def proposal(model: str | Path) -> str:
    """Return the text of a run file whose largest network equals the parent, after checking their shapes.

    Args:
        model: a folder with config.json, or ``package.module:function``.

    Raises:
        ProposalError: the model does not exist, or the largest network of the proposal differs from it.
    """
    is_function = ":" in str(model) and not Path(model).exists()
    try:
        return _of_function(str(model)) if is_function else _of_folder(Path(model))
    except SupernetError as error:
        raise ProposalError(f"{model}: {error}") from error


def write(model: str | Path, output: Path) -> Path:
    """Write the run file of a model and return its path.

    Raises:
        ProposalError: the file exists, its name does not end in .py, or as in `proposal`.
    """
    if output.exists():
        raise ProposalError(f"{output} exists: give another --output, or remove it")
    if output.suffix != ".py":
        raise ProposalError(f"--output {output}: a run file is Python, give a name that ends in .py")
    written = proposal(model)
    with output.open("x", encoding="utf-8") as file:
        file.write(written)
    return output


# --- where the model comes from ----------------------------------------------------------------------------------


def _of_folder(folder: Path) -> str:
    folder = folder.expanduser().resolve()
    if not (folder / "config.json").is_file():
        found = "has no config.json" if folder.is_dir() else "does not exist"
        raise ProposalError(f"{folder} {found}: give a folder that save_pretrained wrote, or package.module:function")
    library = _transformers()
    config, name = _config(library, folder)
    model = getattr(library, name, None) if name.isidentifier() else None
    if not (isinstance(model, type) and issubclass(model, library.PreTrainedModel)):
        raise ProposalError(f'{folder}/config.json names no class of transformers in "architectures", but {name!r}')
    lines = (
        f"FOLDER = {str(folder)!r}",
        "CONFIG = AutoConfig.from_pretrained(FOLDER, local_files_only=True)",
        f"MODEL = {name}",
    )
    imports = (f"from transformers import AutoConfig, {name}",)
    whole = skeleton(model, config)
    init = _weights(folder, whole)
    parent = _parent(f"{name} of {_name(folder.name)}", folder.name, whole, config, imports, lines, init)
    return _tried(text(propose(model, config), parent), whole)


def _config(library: Any, folder: Path) -> tuple[Any, str]:
    """Return the config of a folder and the name of its model class, without running code from the folder."""
    path = folder / "config.json"
    try:
        named = json_object(file_bytes(path)).get("architectures")
        config = library.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except MalformedError as error:
        raise ProposalError(f"{path} {error}: write the folder again with save_pretrained") from None
    except Exception as error:  # the library raises many types for an invalid config
        raise ProposalError(f"{path}: {' '.join(str(error).split())}") from error
    return config, str(next(iter(named), "")) if isinstance(named, list) else ""


def _weights(folder: Path, whole: nn.Module) -> str:
    """Return code for the initial weights: the folder, or its loaded model if the files use older names of weights."""
    if not any(folder.glob("*.safetensors")):
        return "None  # the folder has no safetensors: networks begin untrained"
    if missing_names(folder, whole):
        return "MODEL.from_pretrained(FOLDER)  # which knows the older names in the files"
    return "FOLDER"


def _parent(
    title: str, name: str, whole: Any, config: Any, imports: tuple[str, ...], lines: tuple[str, ...], init: str
) -> Parent:
    """Return the description of a model of transformers, with its inputs and the output to use."""
    inputs = (whole.main_input_name, *(("decoder_input_ids",) if config.is_encoder_decoder else ()))
    output = "logits" if re.search("For[A-Z]|LMHead", type(whole).__name__) else "last_hidden_state"
    return Parent(title, _name(name), imports, lines, init, inputs, output)


def _name(text: str) -> str:
    """Return the text as a valid name of a study."""
    return re.sub(r"[^A-Za-z0-9_.-]+|^[^A-Za-z0-9]+", "-", text).strip("-") or "smaller"


def _of_function(name: str) -> str:
    where, _, called = name.partition(":")
    function = _function(name, where, called)
    parent = function()
    if not isinstance(parent, nn.Module):
        raise ProposalError(f"{name}() returned {type(parent).__name__}: give a function that returns a module")
    config = getattr(parent, "config", None)
    if "transformers" in sys.modules and isinstance(parent, _transformers().PreTrainedModel):
        lines = (f"PARENT = {called}()", "CONFIG, MODEL = PARENT.config, type(PARENT)")
        imports = (f"from {where} import {called}",)
        title = f"the {type(parent).__name__} of {name}"
        described = _parent(title, called, parent, config, imports, lines, "PARENT")
        return _tried(text(propose(type(parent), config), described), parent)
    return _tried(_by_arguments(name, where, called, function), parent, within="")


def _function(name: str, where: str, called: str) -> Callable[..., Any]:
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as `python -m` does
    try:
        module = importlib.import_module(where)
    except ImportError as error:
        raise ProposalError(f"{name}: {error}; give package.module:function that can be imported from here") from error
    found = getattr(module, called, None)
    if not callable(found):
        raise ProposalError(f"{name}: {where} has no function {called!r}")
    return found  # type: ignore[no-any-return]


def _by_arguments(name: str, where: str, called: str, function: Callable[..., nn.Module]) -> str:
    """Return a proposal with a choice for every argument that is a whole number."""
    given = {p.name: p.default for p in inspect.signature(function).parameters.values() if type(p.default) is int}
    dimensions: list[Dimension] = []
    fixed: list[str] = []
    for argument, size in given.items():
        options, why = admitted(function, argument, shares(size)) if size > 1 else ((size,), "")
        if len(options) > 1:
            dimensions.append(Dimension(argument, options, f"of {called}"))
        else:
            fixed.append(f"{argument}: {why or 'it moves no parameter'}")
    if not dimensions:
        raise ProposalError(
            f"{name}: {called} has no argument that is a whole number with a default and moves a parameter: give "
            "it its sizes as arguments, as in def model(width=256, depth=6)"
        )
    header = {"title": name, "name": _name(called), "module": where, "function": called}
    return build_text(header, tuple(dimensions), tuple(fixed))


def _tried(written: str, parent: nn.Module, within: str = "model.") -> str:
    """Return the text after checking that its largest network has the parent's parameters and all options build.

    Args:
        within: path of the parent in the networks of the text.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "proposal.py"
        file.write_text(written, encoding="utf-8")
        found = executed(file)
    surveyed, build = looked_at(found["space"], found["build"], found["LAYOUT"])
    network = build_skeleton(build, found["space"].largest())
    sizes = {name: surveyed.shapes[name] for name, _ in network.named_parameters()}
    beyond = {name: size for name, size in sizes.items() if size != network.get_parameter(name).shape}
    shapes = {name: tuple(own.shape) for name, own in whole(network).named_parameters()} | beyond
    largest = {name.removeprefix(within): shape for name, shape in shapes.items()}
    expected = {name: tuple(p.shape) for name, p in parent.named_parameters()}
    if largest != expected:
        other = min(name for name, _ in largest.items() ^ expected.items())
        raise ProposalError(
            f"the proposed space does not hold {type(parent).__name__}: {other} is {largest.get(other)} there and "
            f"{expected.get(other)} in the model; write build(arch) and a Space by hand, as the README shows"
        )
    build_skeleton(found["build"], found["space"].smallest())
    return written


def _transformers() -> Any:
    try:
        return importlib.import_module("transformers")
    except ImportError as error:
        raise ProposalError("this needs transformers: pip install nas[transformers]") from error
