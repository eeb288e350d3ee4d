"""A proposal as the Python text of a run file: read, edited and run by a person, so plain and short."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass

from supernets.proposing import Dimension, Proposal


@dataclass(frozen=True)
class Parent:
    """How the text gets at the parent: lines that bind CONFIG and MODEL, and the expression of its weights."""

    title: str
    name: str
    imports: tuple[str, ...]
    lines: tuple[str, ...]
    init: str
    inputs: tuple[str, ...]
    """Names of the arguments of forward."""
    output: str
    """The attribute of what forward returns that is used."""


_DATA = """\
# --- your data ------------------------------------------------------------------------------------------------------
# A task brings data, loss and metric: see supernets.tasks, as in
#     task = Classification(train=(inputs, labels), valid=(inputs, labels))
#     task = LanguageModelling(train_tokens, valid_tokens, context=128)
# Once there is one, `nas search` runs this file; `Supernet(space, build, layout=LAYOUT, init=INIT)` needs none.
task: Task | None = None  # <- replace None

if task is not None:
    run = Run(
        name="{name}",
        space=space,
        build=build,
        task=task,
        layout=LAYOUT,
        init=INIT,
        objectives=(task.metric, "params"),
    )
"""


def text(proposal: Proposal, parent: Parent) -> str:
    """The run file."""
    parts = [
        _opening(parent.title),
        _imports(proposal, parent),
        "\n".join(parent.lines) + f"\nINIT = {parent.init}\nLAYOUT: Layouts = {_layout(proposal.layout)}\n",
        "\n" + _space(proposal),
        "\nspace = Smaller()\n\n",
        _network(parent),
        "\n" + _build(proposal),
        "\n" + _DATA.format(name=parent.name),
    ]
    return "\n".join(parts)


def build_text(header: Mapping[str, str], dimensions: tuple[Dimension, ...], fixed: tuple[str, ...]) -> str:
    """The run file of a function that takes sizes; `header` has title, name, module and function."""
    given = ", ".join(f"{dimension.name}=arch.{dimension.name}" for dimension in dimensions)
    function = header["function"]
    parts = [
        _opening(header["title"]),
        "from torch import nn\n",
        f"from {header['module']} import {function}\n"
        "from nas.run import Run\nfrom search_spaces import Architecture, Space, choice\n"
        "from supernets.layout import Layouts\nfrom supernets.tasks import Task\n",
        f"INIT = {function}()  # the parent's weights\nLAYOUT: Layouts = {{}}\n",
        "\n" + _space(Proposal(list(dimensions), fixed=list(fixed))),
        "\nspace = Smaller()\n",
        f"\ndef build(arch: Architecture) -> nn.Module:\n    return {function}({given})\n",
        "\n" + _DATA.format(name=header["name"]),
    ]
    return "\n".join(parts)


def _opening(title: str) -> str:
    return f'"""Smaller networks within {title}.\n\nProposed by `nas propose`: change what you know better.\n"""\n'


def _imports(proposal: Proposal, parent: Parent) -> str:
    blocks = "from supernets import Blocks\n" if proposal.layout else ""
    return (
        "from torch import Tensor, nn\n"
        + "".join(f"{line}\n" for line in parent.imports)
        + "\nfrom nas.run import Run\nfrom search_spaces import Architecture, Space, choice\n"
        + blocks
        + "from supernets.layout import Layouts\nfrom supernets.tasks import Task\n"
    )


def _layout(layout: Mapping[str, tuple[int, int]]) -> str:
    if not layout:
        return "{}"
    lines = (
        f'    "{pattern}": Blocks({count}{f", axis={axis}" if axis else ""}),'
        for pattern, (count, axis) in layout.items()
    )
    return "\n".join(["{  # several matrices in one, each cut on its own", *lines, "}"])


def _space(proposal: Proposal) -> str:
    lines = ["class Smaller(Space):", '    """The last option of each is the parent\'s own size."""', ""]
    for dimension in proposal.dimensions:
        options = ", ".join(map(str, dimension.options))
        per = f', per="{dimension.per}"' if dimension.per else ""
        lines.append(f"    {dimension.name} = choice({options}{per})  # {dimension.comment}")
    for why in proposal.fixed:
        lines += textwrap.wrap(f"not varied: {why}", 110, initial_indent="    # ", subsequent_indent="    # ")
    return "\n".join(lines) + "\n"


def _network(parent: Parent) -> str:
    arguments = ", ".join(f"{name}: Tensor" for name in parent.inputs)
    passed = ", ".join(f"{name}={name}" for name in parent.inputs)
    return (
        "class Network(nn.Module):\n"
        '    """The model as tasks want it: tensors in, one tensor out."""\n\n'
        "    def __init__(self, model: nn.Module) -> None:\n"
        "        super().__init__()\n"
        "        self.model = model\n\n"
        f"    def forward(self, {arguments}) -> Tensor:\n"
        f"        found: Tensor = self.model({passed}).{parent.output}\n"
        "        return found\n"
    )


def _build(proposal: Proposal) -> str:
    changes = [f'        "{key}": {value!r},' for key, value in proposal.constants.items()]
    changes += [f'        "{setting.key}": {setting.text()},' for setting in proposal.settings]
    changes += [
        f'        "{key}": [{", ".join(f"arch.{name}" for name in names)}],' for key, names in proposal.lists.items()
    ]
    argument = ", hidden: int" if proposal.hidden_keys else ""
    changes += [f'        "{key}": hidden,' for key in proposal.hidden_keys]
    doc = '    """The model with these sizes, and one feed-forward size in all its blocks."""\n' if argument else ""
    model = (
        f"def model(arch: Architecture{argument}) -> nn.Module:\n{doc}    changes = {{\n"
        + "\n".join(changes)
        + "\n    }\n    return MODEL(type(CONFIG).from_dict({**CONFIG.to_dict(), **changes}))\n"
    )
    return f"{model}\n\n{_assembled(proposal) if argument else _plain()}"


def _plain() -> str:
    return "def build(arch: Architecture) -> nn.Module:\n    return Network(model(arch))\n"


def _assembled(proposal: Proposal) -> str:
    stacks = [stack for stack in proposal.stacks if stack.hidden]
    pairs = "".join(f'        "{stack.blocks}": arch.{stack.hidden},\n' for stack in stacks)
    return (
        "def build(arch: Architecture) -> nn.Module:\n"
        '    """Every block comes from a model that has its feed-forward size throughout."""\n'
        f"    sizes = {{\n{pairs}    }}\n"
        "    models = {size: model(arch, size) for size in {size for blocks in sizes.values() for size in blocks}}\n"
        "    whole = models[max(models)]\n"
        "    for path, hidden in sizes.items():\n"
        "        blocks = whole.get_submodule(path)\n"
        "        for position, size in enumerate(hidden):\n"
        "            blocks[position] = models[size].get_submodule(path)[position]\n"
        "    return Network(whole)\n"
    )
