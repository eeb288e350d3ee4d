"""Learning from a parent: wrap a task, and whatever trains by it distils."""

from supernets.distillation.layers import DistillationError, Every, Mapped, Observed, every, last
from supernets.distillation.task import Distilled
from supernets.distillation.terms import Affinity, Custom, Embeddings, Hidden, Logits, Relations

__all__ = [
    "Affinity",
    "Custom",
    "DistillationError",
    "Distilled",
    "Embeddings",
    "Every",
    "Hidden",
    "Logits",
    "Mapped",
    "Observed",
    "Relations",
    "every",
    "last",
]
