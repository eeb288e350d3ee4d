"""Which sizes of a pretrained model may vary: found in its config, and each tried on shapes alone before it is named.

A config is a dictionary whose keys differ by family (`hidden_size`, `n_embd`, `d_model`), so the keys of a role are
listed here, and what a key really does is seen by building the model with another value: parameters move, lists of
blocks get shorter, or the build fails and the reason is told. Nothing is assumed from the name of a family.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import gt
from typing import Any

from torch import nn

from search_spaces import Architecture
from supernets.errors import BuildError, SupernetError
from supernets.layout import Shape
from supernets.skeleton import build_skeleton

WIDTH = ("hidden_size", "n_embd", "d_model", "dim")
HEADS = ("num_attention_heads", "n_head", "num_heads", "n_heads", "encoder_attention_heads", "decoder_attention_heads")
GROUPS = ("num_key_value_heads", "num_kv_heads")
HEAD_SIZE = ("head_dim", "d_kv")
LAYERS = (
    *("num_hidden_layers", "n_layer", "num_layers", "n_layers", "num_decoder_layers"),
    *("encoder_layers", "decoder_layers"),
)
HIDDEN = (
    *("moe_intermediate_size", "intermediate_size", "n_inner", "d_ff", "ffn_dim", "hidden_dim", "ffn_hidden_size"),
    *("encoder_ffn_dim", "decoder_ffn_dim"),
)
EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")
ROUTED_TO = ("num_experts_per_tok", "moe_topk")
FOLLOWING = ("word_embed_proj_dim", "output_hidden_size", "pooler_output_size", "embedding_size")
"""Keys of separate widths, which follow the model's width if they equal it."""
_QUERIES_KEYS_VALUES = re.compile(r"qkv|c_attn|attn.*in_proj", re.IGNORECASE)
SHARES = (0.5, 0.75, 1.0)
"""Proposed options, as shares of the parent's size."""


@dataclass(frozen=True)
class Setting:
    """One key of the config: ``times * arch.dimension // over``, or the leading part of a list."""

    key: str
    dimension: str
    times: int = 1
    over: int = 1
    listed: tuple[Any, ...] | None = None

    def value(self, size: int) -> Any:
        return self.times * size // self.over if self.listed is None else list(self.listed[:size])

    def text(self) -> str:
        size = f"arch.{self.dimension}"
        if self.listed is not None:
            return f"CONFIG.{self.key}[: {size}]"
        return (f"{self.times} * " if self.times > 1 else "") + size + (f" // {self.over}" if self.over > 1 else "")


@dataclass(frozen=True)
class Dimension:
    """A choice: options from small to the parent's own, with one value per block if it has a `per`."""

    name: str
    options: tuple[int, ...]
    comment: str
    per: str = ""


@dataclass(frozen=True)
class Stack:
    """A list of blocks in the model, and the choices of their number and of their feed-forward sizes."""

    blocks: str
    depth: str
    hidden: str = ""


@dataclass
class Proposal:
    """Choices, their mapping to the config, and the reasons why other sizes stay fixed."""

    dimensions: list[Dimension] = field(default_factory=list)
    settings: list[Setting] = field(default_factory=list)
    constants: dict[str, Any] = field(default_factory=dict)
    lists: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Keys whose value is a list with one choice per item."""
    hidden_keys: tuple[str, ...] = ()
    """Keys of the feed-forward size of a block."""
    stacks: list[Stack] = field(default_factory=list)
    layout: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Patterns of fused parameters, with the number of blocks and their axis."""
    fixed: list[str] = field(default_factory=list)
    """Comments on sizes that stay fixed, with the reasons."""


def propose(model: Any, config: Any) -> Proposal:
    """Choices for a class of transformers and a config of the parent.

    Raises:
        SupernetError: the class cannot be built from the config, or no size of it can vary.
    """
    probe = _Probe(model, config)
    proposal = Proposal()
    if isinstance(probe.keys.get("depths"), list):
        _stages(probe, proposal)
    else:
        _transformer(probe, proposal)
    if not proposal.dimensions:
        why = f" ({'; '.join(proposal.fixed)})" if proposal.fixed else ""
        raise SupernetError(
            f"no size of {model.__name__} can be varied by its config{why}: write build(arch) and a Space by hand, as "
            "the README shows"
        )
    return proposal


def skeleton(model: Any, config: Any) -> nn.Module:
    """The parent on the meta device."""
    return _Probe(model, config).parent


def admitted(function: Callable[..., nn.Module], argument: str, options: Sequence[int]) -> tuple[tuple[int, ...], str]:
    """The options of a function's argument that build a module and move a parameter, and why others do not."""

    def built(size: int) -> dict[str, Shape]:
        return _shapes(
            build_skeleton(lambda arch: function(**{argument: size}), Architecture("Call", {argument: size}))
        )

    kept, why, parent = [options[-1]], "", built(options[-1])
    for size in reversed(options[:-1]):
        try:
            kept = [size, *kept] if built(size) != parent else kept
        except BuildError as error:
            why = reason(error)
    return tuple(kept), why


def shares(size: int, unit: int = 1, least: int = 1) -> tuple[int, ...]:
    """Return half, three quarters and all of a size, in multiples of a unit: (384, 576, 768)."""
    found = {max(least, unit, int(size * share / unit) * unit) for share in SHARES[:-1]}
    return (*sorted(n for n in found if n < size), size)


def _round(size: int) -> int:
    """Return the largest power of two that divides a size and is at most an eighth of it."""
    unit = 1
    while size % (2 * unit) == 0 and 2 * unit <= size // 8:
        unit *= 2
    return unit


# --- what a value of the config does --------------------------------------------------------------------------------


class _Probe:
    """Builds the model on the meta device with other values in its config."""

    def __init__(self, model: Any, config: Any) -> None:
        self._model, self._config = model, config
        self.keys: dict[str, Any] = config.to_dict()
        self.given: dict[str, Any] = {}
        """Changes that apply to all builds: explicit values for what the config leaves open."""
        self.returns_stages = model.__name__.endswith("Backbone")
        try:
            self.parent = self.build({})
        except BuildError as error:
            raise SupernetError(f"{model.__name__} cannot be built from its config: {reason(error)}") from error
        self.shapes = _shapes(self.parent)

    def build(self, changes: Mapping[str, Any]) -> nn.Module:
        keys = {**self._config.to_dict(), **self.given, **changes}
        return build_skeleton(
            lambda arch: self._model(type(self._config).from_dict(keys)), Architecture("Config", dict(changes))
        )

    def moved(self, changes: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        """The axes that move in each parameter that both have, () where one lacks it.

        Raises:
            BuildError: the model cannot be built so, or a parameter of it does not fit into the parent's.
        """
        shapes = _shapes(self.build(changes))
        for name in self.shapes.keys() & shapes.keys():
            if len(shapes[name]) != len(self.shapes[name]) or any(map(gt, shapes[name], self.shapes[name])):
                raise BuildError(f"{name} of {shapes[name]} is no part of the parent's {self.shapes[name]}")
        moved: dict[str, tuple[int, ...]] = {name: () for name in self.shapes.keys() ^ shapes.keys()}
        for name in self.shapes.keys() & shapes.keys():
            axes = tuple(i for i, (a, b) in enumerate(zip(self.shapes[name], shapes[name], strict=True)) if a != b)
            moved |= {name: axes} if axes else {}
        return moved

    def key(self, names: Sequence[str]) -> str | None:
        """Return the first of these keys whose value is an integer."""
        return next(self.all(names), None)

    def all(self, names: Sequence[str]) -> Iterator[str]:
        """Return those of these keys whose value is an integer."""
        return (name for name in names if type(self.keys.get(name)) is int)


def _shapes(module: nn.Module) -> dict[str, Shape]:
    return {name: tuple(parameter.shape) for name, parameter in module.named_parameters()}


def reason(error: BaseException) -> str:
    """Return the message of a failed build, in one line."""
    text = " ".join(str(error.__cause__ or error).split())
    return text if len(text) < 160 else f"{text[:157]}..."


def _admit(
    probe: _Probe, proposal: Proposal, dimension: Dimension, settings: Sequence[Setting], parts: str = ""
) -> dict[str, tuple[int, ...]]:
    """Add a choice with the options that build and change a parameter; return what the smallest option changes."""
    kept, moved, why = [dimension.options[-1]], dict[str, tuple[int, ...]](), ""
    for option in reversed(dimension.options[:-1]):
        try:
            found = probe.moved({setting.key: setting.value(option) for setting in settings})
        except BuildError as error:
            why = reason(error)
            continue
        if found:
            kept, moved = [option, *kept], found
    if len(kept) == 1 and len(dimension.options) > 1:
        proposal.fixed.append(f"{dimension.name} ({settings[0].key}): {why or 'it moves no parameter'}")
    elif len(dimension.options) == 1:
        proposal.fixed.append(f"{dimension.name} ({settings[0].key}): nothing smaller keeps whole what stays together")
    elif len(kept) > 1:
        proposal.dimensions.append(Dimension(dimension.name, tuple(kept), dimension.comment, dimension.per))
        proposal.settings += settings
    return moved


# --- transformers -----------------------------------------------------------------------------------------------


def _transformer(probe: _Probe, proposal: Proposal) -> None:
    width, heads = probe.key(WIDTH), list(probe.all(HEADS))
    if width is None:
        parts = ", ".join(key for key in probe.keys if key.endswith("_config"))
        nested = f"; {parts} describe parts with sizes of their own" if parts else ""
        proposal.fixed.append(f"the config has no key of a hidden size that is known here{nested}")
        return
    if "use_cache" in probe.keys:
        proposal.constants["use_cache"] = False
    stages = dict.fromkeys(("out_features", "out_indices"))
    if "stage_names" in probe.keys and not probe.returns_stages:
        probe.given |= stages  # they name layers, of which there may be fewer
    _say_hidden(probe, probe.keys[width])
    apart = _heads_apart(probe, width, heads)
    _width(probe, proposal, width, [] if apart else heads)
    if apart:
        _attention(probe, proposal, heads)
    _experts(probe, proposal)
    _depths(probe, proposal)
    _feed_forward(probe, proposal)
    proposal.constants |= {key: value for key, value in probe.given.items() if key not in proposal.hidden_keys}


def _say_hidden(probe: _Probe, width: int) -> None:
    """Set the feed-forward size that a config leaves open (four times the width), so that it does not follow the
    width."""
    for key in HIDDEN:
        if key in probe.keys and probe.keys[key] is None and not probe.moved({key: 4 * width}):
            probe.given[key] = probe.keys[key] = 4 * width


def _heads_apart(probe: _Probe, width: str, heads: Sequence[str]) -> bool:
    """Return whether the number of heads may vary alone, because the config can set the head size."""
    if len(heads) != 1:
        return False
    key = next((key for key in HEAD_SIZE if key in probe.keys), HEAD_SIZE[0])
    size = probe.keys.get(key) or probe.keys[width] // probe.keys[heads[0]]
    fewer = dict.fromkeys([heads[0], *probe.all(GROUPS)], 1)
    try:
        if not probe.moved({key: size}) and probe.moved({key: size, **fewer}):
            probe.given[key] = probe.keys[key] = size
            return True
    except BuildError:
        pass  # then its heads follow the width
    return False


def _width(probe: _Probe, proposal: Proposal, width: str, heads: Sequence[str]) -> None:
    size = probe.keys[width]
    counts = {probe.keys[key] for key in heads}
    settings, unit, comment = [Setting(width, "width")], _round(size), width
    if len(counts) > 1 or any(size % count for count in counts):
        proposal.fixed.append(f"width ({width}): {' and '.join(heads)} do not divide it into heads of one size")
        return
    if heads:
        unit = size // counts.pop()
        shared = [key for key in probe.all(GROUPS) if probe.keys[key] > 1]  # one key for all queries stays
        groups = {probe.keys[heads[0]] // probe.keys[key]: key for key in shared}
        settings += [Setting(key, "width", over=unit) for key in heads]
        settings += [Setting(key, "width", over=unit * queries) for queries, key in groups.items()]
        comment = f"{width}; attention divides it, so heads of {unit} follow it"
        unit *= max(groups, default=1)
    settings += [Setting(key, "width") for key in FOLLOWING if probe.keys.get(key) == size]
    convolved = probe.keys.get("num_conv_pos_embedding_groups")
    if convolved and size % convolved == 0:
        # a grouped kernel reads the leading channels of each group: groups of one size are whole ones
        settings.append(Setting("num_conv_pos_embedding_groups", "width", over=size // convolved))
        unit = max(unit, size // convolved)
    moved = _admit(probe, proposal, Dimension("width", shares(size, unit), comment), settings)
    _fused(probe, proposal, moved, size, 3)


def _attention(probe: _Probe, proposal: Proposal, heads: Sequence[str]) -> None:
    """Vary the number of equal heads; with grouped queries, of groups, so that leading queries keep leading keys."""
    key, groups = heads[0], probe.key(GROUPS)
    count, pairs = probe.keys[key], probe.keys[groups] if groups else 0
    if groups and 1 < pairs < count:
        each = count // pairs
        comment = f"{groups}, each with its {each} queries"
        proposal.fixed.append(f"queries of each group: leading rows are whole groups, fewer of {each} would not be")
        settings = [Setting(groups, "groups"), Setting(key, "groups", times=each)]
        moved = _admit(probe, proposal, Dimension("groups", shares(pairs), comment), settings)
    else:
        settings = [Setting(key, "heads"), *([Setting(groups, "heads")] if groups and pairs > 1 else [])]
        moved = _admit(probe, proposal, Dimension("heads", shares(count), key), settings)
    size = next(probe.given[name] for name in HEAD_SIZE if name in probe.given)
    _fused(probe, proposal, moved, count * size, 3)


def _experts(probe: _Probe, proposal: Proposal) -> None:
    key = probe.key(EXPERTS)
    if key is None:
        return
    count, least = probe.keys[key], max((probe.keys[name] for name in probe.all(ROUTED_TO)), default=1)
    settings, unit = [Setting(key, "experts")], 1
    comment = f"{key}: the leading ones, with their rows of the router; a token goes to {least}"
    if probe.keys.get("n_group") and count % probe.keys["n_group"] == 0:
        unit = count // probe.keys["n_group"]  # whole groups stay, for tokens choose groups first
        settings.append(Setting("n_group", "experts", over=unit))
        least = max(least, unit * probe.keys.get("topk_group", 1))
    _admit(probe, proposal, Dimension("experts", shares(count, unit, least), comment), settings)


def _depths(probe: _Probe, proposal: Proposal) -> None:
    """The number of blocks of every list of blocks that a key of the config makes longer or shorter."""
    for key in probe.all(LAYERS):
        layers = probe.keys[key]
        if layers < 2:
            continue
        lists = [
            Setting(name, "", listed=tuple(value))
            for name, value in probe.keys.items()
            if isinstance(value, list) and len(value) == layers and name.endswith("layer_types")
        ]
        try:
            fewer = {key: layers - 1} | {setting.key: setting.value(layers - 1) for setting in lists}
            there, here = _lists(probe.parent), _lists(probe.build(fewer))
        except BuildError as error:
            proposal.fixed.append(f"depth ({key}): {reason(error)}")
            continue
        paths = [path for path, length in there.items() if here.get(path) == length - 1 and length == layers]
        name = _prefixed(probe, proposal, paths[0] if paths else "")
        settings = [Setting(key, name), *(Setting(setting.key, name, listed=setting.listed) for setting in lists)]
        if _admit(probe, proposal, Dimension(name, shares(layers), f"{key}: the leading ones stay"), settings):
            proposal.stacks += [Stack(path, name) for path in paths]


def _lists(module: nn.Module) -> dict[str, int]:
    return {path: len(part) for path, part in module.named_modules() if isinstance(part, nn.ModuleList)}


def _prefixed(probe: _Probe, proposal: Proposal, path: str) -> str:
    """Return a name for a number of blocks, with the side if there are an encoder and a decoder."""
    sides = ("encoder", "decoder") if probe.keys.get("is_encoder_decoder") else ()
    side = next((f"{side}_" for side in sides if side in path.split(".")), "")
    taken = {dimension.name for dimension in proposal.dimensions}
    return f"{side}depth" if f"{side}depth" not in taken else f"{side}depth_{len(taken)}"


def _feed_forward(probe: _Probe, proposal: Proposal) -> None:
    """One size for each block: of every list the key that moves most of it."""
    moving: dict[str, dict[str, tuple[int, ...]]] = {}
    for key in probe.all(HIDDEN):
        size = probe.keys[key]
        options = shares(size, _round(size))
        try:
            moving[key] = probe.moved({key: options[0]})
        except BuildError as error:
            proposal.fixed.append(f"hidden ({key}): {reason(error)}")
    used: dict[str, None] = {}
    for index, stack in enumerate(proposal.stacks):
        counts = {key: sum(name.startswith(f"{stack.blocks}.") for name in moved) for key, moved in moving.items()}
        key = max(counts, key=counts.__getitem__, default="")
        if not key or not counts[key]:
            continue
        used[key] = None
        size, name = probe.keys[key], stack.depth.replace("depth", "hidden")
        without = [
            number
            for number in range(_lists(probe.parent)[stack.blocks])
            if not any(name.startswith(f"{stack.blocks}.{number}.") for name in moving[key])
        ]
        comment = f"{key} of each block" + (f"; block {', '.join(map(str, without))} has none" if without else "")
        if all(dimension.name != name for dimension in proposal.dimensions):
            proposal.dimensions.append(Dimension(name, shares(size, _round(size)), comment, per=stack.depth))
        proposal.stacks[index] = Stack(stack.blocks, stack.depth, name)
        if probe.keys.get("model_type") != "gpt_oss":  # where gates and values alternate
            _fused(probe, proposal, moving[key], size, 2)
    proposal.hidden_keys = tuple(used)
    for key, moved in moving.items():
        if moved and not used and all(dimension.name != "hidden" for dimension in proposal.dimensions):
            size = probe.keys[key]
            _admit(probe, proposal, Dimension("hidden", shares(size, _round(size)), key), [Setting(key, "hidden")])
        elif moved and key not in used:
            proposal.fixed.append(f"{key}: it stays, as another size of these blocks varies")


def _fused(probe: _Probe, proposal: Proposal, moved: Mapping[str, tuple[int, ...]], size: int, count: int) -> None:
    """Axes that are several times the size that moves them hold as many parts, one after the other.

    Queries, keys and values by their names too, for other axes of attention may be so long by chance. Where each head
    has its own part, as in GPT-NeoX's ``query_key_value``, leading rows are leading heads already.
    """
    for name, axes in moved.items():
        for axis in axes:
            if probe.shapes[name][axis] == count * size and (count == 2 or _QUERIES_KEYS_VALUES.search(name)):
                proposal.layout["*." + ".".join(name.split(".")[-2:])] = (count, axis)


# --- convolutional networks in stages -----------------------------------------------------------------------------


def _stages(probe: _Probe, proposal: Proposal) -> None:
    """Width and number of blocks of every stage; the number alone where one width makes those of all stages."""
    if isinstance(probe.keys.get("embed_dim"), int):
        proposal.fixed.append("width (embed_dim): the heads of every stage would have to follow it")
    for key, word in (("hidden_sizes", "width"), ("depths", "blocks")):
        values = probe.keys.get(key)
        if not isinstance(values, list):
            continue
        names = tuple(f"{word}_{stage + 1}" for stage in range(len(values)))
        for stage, (name, size) in enumerate(zip(names, values, strict=True)):
            options = shares(size, _round(size) if word == "width" else 1)
            follows = word == "width" and stage == 0 and probe.keys.get("embedding_size") == size
            kept, why = [size], ""
            for option in reversed(options[:-1]):
                changes: dict[str, Any] = {key: [*values[:stage], option, *values[stage + 1 :]]}
                changes |= {"embedding_size": option} if follows else {}
                try:
                    kept = [option, *kept] if probe.moved(changes) else kept
                except BuildError as error:
                    why = reason(error)
            if why:
                proposal.fixed.append(f"{name} ({key}[{stage}]), some options: {why}")
            comment = f"{key}[{stage}]" + (", and embedding_size" if follows else "")
            proposal.dimensions.append(Dimension(name, tuple(kept), comment))
            proposal.settings += [Setting("embedding_size", name)] if follows else []
        proposal.lists[key] = names
    if all(len(dimension.options) == 1 for dimension in proposal.dimensions):
        proposal.dimensions.clear()
