"""Handwritten digits, a MobileNet-like space: networks that err little and are fast on this machine's processor."""

from functools import partial

from nas.data import digits
from nas.run import Run
from search_spaces import Space, choice
from supernets.models import mobilenet
from supernets.tasks import Classification
from supernets.training import TrainingConfig


class Stage(Space):
    """Inverted residual blocks of one width."""

    width = choice(4, 6, 8, 12, 16, 24, 32)
    depth = choice(1, 2)
    kernel = choice(3, 5, per="depth")
    expansion = choice(1, 2, 4, per="depth")


class Digits(Space):
    """Three stages between a stem and a head, for images of 8x8 pixels."""

    stem = choice(4, 8, 12)
    stages = choice(Stage(), per=3)
    head = choice(16, 32, 64)


STAGE_WIDTHS = {"stages.0.width": (4, 8, 12), "stages.1.width": (6, 12, 24), "stages.2.width": (8, 16, 32)}
data = digits(valid=400)
run = Run(
    name="digits",
    space=Digits().where(**STAGE_WIDTHS),
    build=partial(mobilenet.build, num_classes=len(data.classes), strides=(1, 2, 2)),
    task=Classification(data.train, data.valid, data.test, batch_size=64, name=data.name),
    objectives=("error", "latency_ms@cpu", "params"),
    training=TrainingConfig(steps=300, lr=1e-2, strategy="sandwich", evaluate_every=100, checkpoint_every=50),
    evaluations=360,
    measured=30,
    trust=0.75,  # in a tenth of so short a training networks learn little
    trust_networks=8,
)
