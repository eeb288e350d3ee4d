"""Distillation from a parent: wrap a task, and every training on that task distils."""

from supernets.distillation.layers import DistillationError, Every, Mapped, Nearest, Observed, every, last, nearest
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
    "Nearest",
    "Observed",
    "Relations",
    "every",
    "last",
    "nearest",
]
