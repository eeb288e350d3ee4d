"""Handwritten digits, a MobileNet-like space: networks that err little and are fast on this machine's processor."""

from functools import partial

from nas.data import digits
from nas.run import Run
from search_spaces.mobilenet import digits_space
from supernets.models import mobilenet
from supernets.tasks import Classification
from supernets.training import TrainingConfig

data = digits()
run = Run(
    name="digits",
    space=digits_space(),
    build=partial(mobilenet.build, num_classes=len(data.classes), strides=(1, 2, 2)),
    task=Classification(data.train, data.valid, data.test, batch_size=64, name=data.name),
    objectives=("error", "latency_ms@cpu", "params"),
    training=TrainingConfig(steps=600, lr=5e-3, evaluate_every=150, checkpoint_every=100),
    evaluations=300,
    trust=8,
    trust_steps=250,
)
