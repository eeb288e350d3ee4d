"""The King James Bible by characters, a GPT-like space: small language models for this machine's processor."""

from functools import partial

from nas.data import bible
from nas.run import Run
from search_spaces.gpt import GPTSpace
from supernets.models import gpt
from supernets.tasks import LanguageModelling
from supernets.training import TrainingConfig

CONTEXT = 64
data = bible(valid=0.003, test=0.003)
run = Run(
    name="bible",
    space=GPTSpace(),
    build=partial(gpt.build, vocab=len(data.vocabulary), context=CONTEXT),
    task=LanguageModelling(data.train, data.valid, data.test, context=CONTEXT, batch_size=16, name=data.name),
    objectives=("loss", "latency_ms@cpu", "params"),
    training=TrainingConfig(steps=250, lr=3e-3, evaluate_every=125, checkpoint_every=50),
    evaluations=80,
    batch=16,
    measured=30,
    trust=0.5,  # in a tenth of so short a training networks learn little
    trust_networks=6,
)
