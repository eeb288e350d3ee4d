"""What the class of a module implies for the layout of its parameters: torch's own, and those of well-known families.

A name alone decides nothing. A rule asks for the class or its attributes, for the names of the children beside each
other, and for sizes that fit together; where they do not, it says nothing, and the axis is cut as any other.
transformers is an extra, so its classes are known by the module they come from.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod

from torch import nn

from supernets.joined import joined
from supernets.layout import Blocks, Centre, Grid, Layout, Parts

Found = Iterator[tuple[str, Layout]]
"""Names of parameters below a module, each with the layout of one axis."""


def implied(module: nn.Module) -> dict[str, list[Layout]]:
    """Return the layouts that the classes in a module imply, by parameter name."""
    found: dict[str, list[Layout]] = defaultdict(list)
    for path, owner in module.named_modules(remove_duplicate=False):
        prefix = path + "." if path else ""
        for name, _ in owner.named_parameters(recurse=False, remove_duplicate=False):
            found[prefix + name] += _of_torch(*_read_as(module, owner, path, name))
        for rule in RULES if owner._modules else RULES_OF_TENSORS:
            for name, layout in rule(owner):
                found[prefix + name].append(layout)
    for _, join, names in joined(module):
        for name, counts in zip(names, join.parts.grids, strict=True):
            found[name] += [Grid(*counts, axis=join.parts.axis)] if counts else []
    return found


# --- torch's own ----------------------------------------------------------------------------------------------------


def _read_as(module: nn.Module, owner: nn.Module, path: str, attribute: str) -> tuple[nn.Module, str]:
    """The module that reads a parameter, and as what: not always the one that holds it, where it is parametrized."""
    if "parametrizations." in path:
        above, _, rest = path.rpartition("parametrizations.")
        return (module.get_submodule(above.rstrip(".")), rest) if "." not in rest else (owner, attribute)
    for ending in ("_orig", "_g", "_v"):  # of torch.nn.utils.spectral_norm and weight_norm, as hooks
        if attribute.endswith(ending) and attribute.startswith("weight"):
            return owner, attribute.removesuffix(ending)
    return owner, attribute


def _of_torch(owner: nn.Module, attribute: str) -> Iterator[Layout]:
    if isinstance(owner, nn.modules.conv._ConvNd) and attribute == "weight":
        yield Centre(*range(2, 2 + len(owner.kernel_size)))
    elif isinstance(owner, nn.MultiheadAttention) and attribute.startswith("in_proj_"):
        yield Blocks(3)
    elif isinstance(owner, nn.RNNBase | nn.RNNCellBase) and not attribute.startswith("weight_hr"):
        if isinstance(owner, nn.LSTM | nn.LSTMCell):
            yield Blocks(4)
        elif isinstance(owner, nn.GRU | nn.GRUCell):
            yield Blocks(3)
        stacked = attribute.startswith("weight_ih_l") and not attribute.startswith("weight_ih_l0")
        if stacked and getattr(owner, "bidirectional", False):
            yield Blocks(2, axis=1)  # its input is the forward states, then the backward ones


# --- layers that make up a larger one -------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Layer:
    """A linear layer below a module: its relative name, and its sizes."""

    name: str
    module: nn.Module
    outputs: int
    inputs: int
    transposed: bool  # (in, out), as in transformers' Conv1D

    def rows(self, layout: Callable[[int], Layout]) -> Found:
        """Yield a layout of the outputs, for every parameter with an output axis."""
        yield from self._along(self.outputs, int(self.transposed), "lora_A", layout, vectors=True)

    def columns(self, layout: Callable[[int], Layout]) -> Found:
        """Yield a layout of the inputs."""
        yield from self._along(self.inputs, int(not self.transposed), "lora_B", layout, vectors=False)

    def _along(self, size: int, axis: int, other: str, layout: Callable[[int], Layout], vectors: bool) -> Found:
        for name, parameter in self.module.named_parameters(remove_duplicate=False):
            adapter = "lora_" in name  # whose matrices are of nn.Linear, around a Conv1D too
            at = (1 if self.transposed else 0) ^ axis if adapter else axis
            if parameter.dim() == 1 and vectors and len(parameter) == size:
                yield f"{self.name}.{name}", layout(0)
            elif parameter.dim() == 2 and parameter.shape[at] == size and other not in name:
                yield f"{self.name}.{name}", layout(at)


def _layer(owner: nn.Module, *names: str, at: str = "") -> _Layer | None:
    """The linear layer of one of these names, wrapped by adapters or not; ``at`` is put before its name."""
    for name in names:
        own = owner._modules.get(name)
        inner = getattr(own, "base_layer", own)
        if isinstance(inner, nn.Linear):
            return _Layer(at + name, own or inner, inner.out_features, inner.in_features, transposed=False)
        if inner is not None and type(inner).__name__ == "Conv1D" and _of_transformers(inner):
            inputs, outputs = inner.weight.shape  # type: ignore[misc] # a matrix
            return _Layer(at + name, own or inner, outputs, inputs, transposed=True)
    return None


def _of_transformers(owner: nn.Module) -> bool:
    return any(base.__module__.startswith("transformers.") for base in type(owner).__mro__)


def _number(owner: nn.Module, *names: str) -> int | None:
    """The first of these attributes, of the module or its config, that is a number of things."""
    for holder in (owner, getattr(owner, "config", None)):
        for name in names:
            value = getattr(holder, name, None)
            if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                return value
    return None


WORDS = ("query", "key", "value")
HEADS = ("num_heads", "num_attention_heads", "n_heads", "n_head")
HEAD_SIZES = ("head_dim", "attention_head_size", "key_value_proj_dim", "head_size")


# --- attention ------------------------------------------------------------------------------------------------------


def _attention(owner: nn.Module) -> Found:
    """Queries, keys, values and the output in one module, as Llama and BART have them."""
    out = _layer(owner, "o_proj", "out_proj", "o")
    if out is not None and _of_transformers(owner):
        yield from _separate(owner, out)
        yield from _norms(owner)


def _norms(owner: nn.Module) -> Found:
    """Norms of queries and keys over all heads, as OLMo 2 has them."""
    size, groups = _number(owner, *HEAD_SIZES), _number(owner, "num_key_value_groups") or 1
    for name, layer, fast in (("q_norm", "q_proj", (groups,)), ("k_norm", "k_proj", ())):
        norm, whole = owner._modules.get(name), _layer(owner, layer)
        weight = None if norm is None else norm._parameters.get("weight")
        if whole is not None and size is not None and weight is not None and len(weight) == whole.outputs:
            yield f"{name}.weight", Grid(whole.outputs // (size * prod(fast)), *fast)


def _output_beside_attention(owner: nn.Module) -> Found:
    """BERT's and ViT's: the output of attention is a layer of the module around it."""
    output = owner._modules.get("output")
    for name in ("self", "attention"):
        attention = owner._modules.get(name)
        if attention is not None and output is not None and _of_transformers(owner):
            out = _layer(output, "dense", at="output.")
            if out is not None:
                yield from _separate(attention, out, at=f"{name}.")


def _separate(owner: nn.Module, out: _Layer, at: str = "") -> Found:
    """Queries, keys and values apart: the leading queries *of each group* that shares a key are kept.

    Rows of queries are a grid (key heads, queries a group, features), and so are the columns of the output.
    """
    q, k, v = (_layer(owner, f"{one}_proj", word, one, at=at) for one, word in zip("qkv", WORDS, strict=True))
    if q is None or k is None or v is None:
        return
    size, groups = _number(owner, *HEAD_SIZES), _number(owner, "num_key_value_groups") or 1
    if size is None:
        return
    heads, rest = divmod(k.outputs, size)
    if rest or q.outputs % (heads * groups * size) or v.outputs % heads or out.inputs != v.outputs * groups:
        return
    yield from q.rows(lambda axis: Grid(heads, groups, axis=axis))
    yield from k.rows(lambda axis: Grid(heads, axis=axis))
    yield from v.rows(lambda axis: Grid(heads, axis=axis))
    yield from out.columns(lambda axis: Grid(heads, groups, axis=axis))


def _gpt2_attention(owner: nn.Module) -> Found:
    """GPT-2's: ``c_attn`` is [q|k|v], of cross attention [k|v], each of as many columns as ``c_proj`` has rows."""
    fused, q, out = (_layer(owner, name) for name in ("c_attn", "q_attn", "c_proj"))
    if fused is None or out is None or not (fused.transposed and out.transposed):
        return
    heads = _number(owner, *HEADS)
    if heads is None:
        return
    count = 3 if q is None else 2
    if fused.outputs == count * out.inputs and not out.inputs % heads:
        yield from fused.rows(lambda axis: Grid(count, heads, axis=axis))
        yield from out.columns(lambda axis: Grid(heads, axis=axis))
        if q is not None:
            yield from q.rows(lambda axis: Grid(heads, axis=axis))


def _qkv(owner: nn.Module) -> Found:
    """timm's and ModernBERT's: [q|k|v] in one layer, each of as many rows as the output has columns."""
    fused, out = _layer(owner, "qkv", "Wqkv"), _layer(owner, "proj", "Wo")
    if fused is None or out is None or fused.outputs != 3 * out.inputs:
        return
    heads = _number(owner, *HEADS)
    if heads is None or fused.outputs % (3 * heads) or (fused.name == "Wqkv" and not _of_transformers(owner)):
        return
    yield from fused.rows(lambda axis: Grid(3, heads, axis=axis))
    yield from out.columns(lambda axis: Grid(heads, axis=axis))


def _grouped_qkv(owner: nn.Module) -> Found:
    """Phi-3's: [q|k|v] in one layer, where keys and values may be fewer than queries."""
    fused, out = _layer(owner, "qkv_proj"), _layer(owner, "o_proj")
    if fused is None or out is None or not _of_transformers(owner):
        return
    size, heads = _number(owner, *HEAD_SIZES), _number(owner, "num_key_value_heads")
    if size is None or heads is None:
        return
    keys, groups = heads * size, out.inputs // (heads * size)
    if fused.outputs != out.inputs + 2 * keys or out.inputs != groups * keys:
        return
    yield from fused.rows(lambda axis: _unequal(heads, groups, size, axis))
    yield from out.columns(lambda axis: Grid(heads, groups, axis=axis))


def _unequal(heads: int, groups: int, size: int, axis: int, times: int = 1) -> Parts:
    """Queries, keys and values of so many key heads of a size, each with a group of queries."""
    keys = heads * size
    return Parts(keys * groups, keys, keys, axis=axis, grids=((heads, groups), (heads,), (heads,)), groups=times)


def _multi_query(owner: nn.Module) -> Found:
    """GPT-BigCode's and Falcon's: one key for all queries behind them, or each group of queries with its key; where
    every query has a key of its own, head after head, each [q|k|v]."""
    fused, out = _layer(owner, "c_attn", "query_key_value"), _layer(owner, "c_proj", "dense")
    if fused is None or out is None or not type(owner).__name__.startswith(("GPTBigCode", "Falcon")):
        return
    heads, size = _number(owner, *HEADS), _number(owner, *HEAD_SIZES)
    if not _of_transformers(owner) or heads is None or size is None or out.inputs != heads * size:
        return
    keys, rest = divmod(fused.outputs - out.inputs, 2 * size)
    if keys < 1 or rest or heads % keys:
        return
    yield from fused.rows(lambda axis: _unequal(keys, heads // keys, size, axis, times=keys))
    yield from out.columns(lambda axis: Grid(keys, heads // keys, axis=axis))


def _query_key_value(owner: nn.Module) -> Found:
    """GPT-NeoX's and BLOOM's: head after head, each [q|k|v]."""
    fused, out = _layer(owner, "query_key_value"), _layer(owner, "dense")
    if fused is None or out is None or not type(owner).__name__.startswith(("GPTNeoX", "Bloom")):
        return
    heads = _number(owner, *HEADS)
    if heads is not None and _of_transformers(owner) and fused.outputs == 3 * out.inputs and not out.inputs % heads:
        yield from fused.rows(lambda axis: Grid(heads, 3, axis=axis))
        yield from out.columns(lambda axis: Grid(heads, axis=axis))


def _mamba2(owner: nn.Module) -> Found:
    """Mamba 2's: [gate | state, B, C | steps] in one layer, of which B and C belong to no head; and what follows."""
    fused, out, conv = _layer(owner, "in_proj"), _layer(owner, "out_proj"), owner._modules.get("conv1d")
    if fused is None or out is None or not _of_transformers(owner):
        return
    heads, size = _number(owner, "num_heads"), _number(owner, "head_dim")
    groups, states = _number(owner, "n_groups"), _number(owner, "ssm_state_size")
    if heads is None or size is None or groups is None or states is None:
        return
    inner, signals = heads * size, groups * states
    if out.inputs != inner or fused.outputs != 2 * (inner + signals) + heads or not isinstance(conv, nn.Conv1d):
        return
    rows, one = (inner, inner, signals, signals, heads), (heads,)
    yield from fused.rows(lambda axis: Parts(*rows, axis=axis, grids=(one, one, (), (), ())))
    for name, parameter in conv.named_parameters():
        if parameter.shape[0] == inner + 2 * signals:
            yield f"conv1d.{name}", Parts(inner, signals, signals, grids=(one, (), ()))
    yield from (
        (name, Grid(heads)) for name, own in owner.named_parameters() if name == "norm.weight" and len(own) == inner
    )
    yield from out.columns(lambda axis: Grid(heads, axis=axis))


# --- what attention keeps -------------------------------------------------------------------------------------------


def key_value_features(owner: nn.Module) -> int:
    """Return the number of key and value features per token of an attention module; 0 for any other module."""
    k, v = (_layer(owner, f"{one}_proj", word, one) for one, word in (("k", "key"), ("v", "value")))
    if k is not None and v is not None:
        return k.outputs + v.outputs
    out = _layer(owner, "c_proj", "proj", "Wo", "o_proj", "dense")
    if (fused := _layer(owner, "c_attn")) is not None:
        return fused.outputs if _layer(owner, "q_attn") is not None else 2 * fused.outputs // 3
    if (fused := _layer(owner, "qkv", "Wqkv", "query_key_value", "qkv_proj")) is not None and out is not None:
        return fused.outputs - out.inputs
    if isinstance(owner, nn.MultiheadAttention):
        return 2 * int(owner.embed_dim)
    return 0


# --- feed-forward layers --------------------------------------------------------------------------------------------


def _gated(owner: nn.Module) -> Found:
    """Phi-3's, GLM's and ModernBERT's: the gate and the gated values in one layer."""
    fused, down = _layer(owner, "gate_up_proj", "Wi"), _layer(owner, "down_proj", "Wo")
    if _of_transformers(owner) and fused is not None and down is not None and fused.outputs == 2 * down.inputs:
        yield from fused.rows(lambda axis: Blocks(2, axis))


def _gated_experts(owner: nn.Module) -> Found:
    """Experts in one tensor (experts, 2 * hidden, width), or transposed; gates that alternate are no blocks."""
    fused, down = owner._parameters.get("gate_up_proj"), owner._parameters.get("down_proj")
    if fused is None or down is None or fused.dim() != 3 or down.dim() != 3 or not _of_transformers(owner):
        return
    if getattr(owner, "is_concatenated", True) and not type(owner).__name__.startswith("GptOss"):
        axis = 1 if fused.shape[2] == down.shape[1] and fused.shape[1] == 2 * down.shape[2] else 2
        if fused.shape[axis] == 2 * down.shape[3 - axis]:
            yield "gate_up_proj", Blocks(2, axis)
            bias = owner._parameters.get("gate_up_proj_bias")
            if bias is not None and bias.dim() == 2 and bias.shape[1] == fused.shape[axis]:
                yield "gate_up_proj_bias", Blocks(2, 1)


RULES_OF_TENSORS: tuple[Callable[[nn.Module], Found], ...] = (_gated_experts,)
"""Rules that read a module's own tensors; all others read the layers below it."""
RULES: tuple[Callable[[nn.Module], Found], ...] = (
    *(_attention, _output_beside_attention, _gpt2_attention, _qkv, _grouped_qkv, _multi_query, _query_key_value),
    *(_mamba2, _gated, *RULES_OF_TENSORS),
)
