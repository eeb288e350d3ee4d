"""What a user brings beside the model: data, a loss and a measure of quality.

Anything that satisfies `Task` can be trained and searched; `Classification`, `Regression` and `LanguageModelling` do.
The batch of step k is a function of (seed, k): epochs are permutations from `default_rng([seed, epoch])`, laid end to
end and cut into batches, so every batch is full, each example comes once an epoch, and resuming at any step is exact.
"""

from supernets.tasks.around import Around
from supernets.tasks.batches import batch_indices, evaluating, to_device
from supernets.tasks.classification import Classification
from supernets.tasks.contract import SamplingTask, Task, TeachingTask, teaches
from supernets.tasks.data import Batch, TaskError
from supernets.tasks.examples import Augment
from supernets.tasks.language import LanguageModelling
from supernets.tasks.paths import EachPath
from supernets.tasks.regression import Regression

__all__ = [
    "Around",
    "Augment",
    "Batch",
    "Classification",
    "EachPath",
    "LanguageModelling",
    "Regression",
    "SamplingTask",
    "Task",
    "TaskError",
    "TeachingTask",
    "batch_indices",
    "evaluating",
    "teaches",
    "to_device",
]
