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
    training=TrainingConfig(steps=300, lr=1e-2, precision="fp32", evaluate_every=100, checkpoint_every=50),
    evaluations=300,
    trust=8,
    trust_steps=150,
)
