"""Classify images: small convolutional networks for handwritten digits, a front for each of two hardware targets.

    nas search image.py

What comes of it: in about four minutes, most of them for timing networks, a front for each target, from half of the
digits wrong to one in a hundred. Every network is evaluated once for both. ONNX Runtime (`onnx`) is many times faster
than PyTorch (`cpu`) on networks this small, and others are best there: `nas front image --target onnx`.
"""

from importlib.util import find_spec

from torch import nn

from nas import Run
from nas.data import digits
from search_spaces import Space, choice
from supernets import one_of, stack
from supernets.tasks import Classification
from supernets.training import TrainingConfig


# 1. What may vary. `arch.width` is then 16, 32 or 48; `arch.kernel` holds one value for each block.
class Networks(Space):
    width = choice(16, 32, 48)
    depth = choice(1, 2, 3)
    kernel = choice(1, 3, 5, per="depth")
    pool = choice("mean", "max")


# 2. The model of one architecture, in plain PyTorch. Layers of another width share weights by themselves; `stack` marks
#    blocks whose number varies, `one_of` alternatives that have nothing to share.
def block(width, kernel):
    return nn.Sequential(
        nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width),  # mixes places
        nn.Conv2d(width, width, 1),  # mixes channels
        nn.BatchNorm2d(width),
        nn.ReLU(),
    )


def build(arch):
    return nn.Sequential(
        nn.Conv2d(1, arch.width, 3, padding=1),
        stack(block(arch.width, kernel) for kernel in arch.kernel),
        one_of(arch.pool, {"mean": lambda: nn.AdaptiveAvgPool2d(1), "max": lambda: nn.AdaptiveMaxPool2d(1)}),
        nn.Flatten(),
        nn.Linear(arch.width, 10),
    )


# 3. The data: inputs (n x channels x height x width) and labels (n,). Put yours here. `nas.data.fashion_mnist()` has
#    more images, where the package dataset-fashion-mnist is installed.
data = digits()
task = Classification(data.train, data.valid, data.test, batch_size=32, name="digits")

# 4. The search. `cpu` is one thread of this machine; `onnx` is the same by ONNX Runtime, which is an extra: pip install
#    nas[onnx]. A limit is a number of milliseconds beside a name: "onnx <= 0.5". `nas target add` describes others.
has_onnx = all(find_spec(package) for package in ("onnx", "onnxscript", "onnxruntime"))
run = Run(
    name="image",
    space=Networks(),
    build=build,
    task=task,
    objectives=("error",),
    targets=("cpu", "onnx") if has_onnx else ("cpu",),
    latency_batch=8,
    training=TrainingConfig(steps=800, lr=1e-2),
    evaluations=100,
    measured=20,
    trust=0.6,
    trust_networks=16,  # that many correct the front well
)
