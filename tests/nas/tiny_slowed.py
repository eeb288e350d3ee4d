"""The tiny run made slow enough to be caught at everything, and all that a search of it ends with."""

from pathlib import Path
from typing import Any

from nas.results import front
from nas.storage import Repository
from tests.nas.command import variant

_SLOW = """
import time
class Slow(tiny.Classification):
    def batch(self, step, seed):
        time.sleep({batch_s})
        return super().batch(step, seed)
    def evaluate(self, module, split="valid"):
        time.sleep({evaluate_s})
        return super().evaluate(module, split)
splits = {{name: (examples.inputs, examples.targets) for name, examples in tiny.run.task.splits.items()}}
task = Slow(**splits, batch_size=tiny.run.task.batch_size, name=tiny.run.task.name)
"""


def slowed(
    folder: Path, changes: str = "", *, batch_s: float = 0.02, evaluate_s: float = 0.03, before: str = ""
) -> Path:
    """A run file: equal to the tiny run in all that is stored, but for `changes`, as those of `variant`.

    Args:
        batch_s, evaluate_s: by how much each batch of a training and each evaluation of a network takes longer.
        before: further code of the run file.
    """
    return variant(folder, f"task=task, {changes}", before + _SLOW.format(batch_s=batch_s, evaluate_s=evaluate_s))


def found(repository: Repository) -> dict[str, Any]:
    """All that does not depend on the speed of the machine; of a search that has finished."""
    study = repository.study("tiny")
    assert study.status == "finished" and study.supernet_digest is not None
    trust = repository.trust(study.supernet_digest)
    assert trust is not None
    return {
        "weights": study.supernet_digest,
        "curve": repository.curve(study.supernet_digest),
        "evaluations": [(e.arch.digest, e.metrics, e.error) for e in repository.evaluations("tiny")],
        "front": [(row.arch.digest, row.metrics, row.verified) for row in front.front(repository, "tiny")],
        "trust": [(row["digest"], row["inherited"], row["standalone"], row["again"]) for row in trust.rows],
    }
