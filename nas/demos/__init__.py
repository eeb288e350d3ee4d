"""The runs of `nas demo`: ordinary run files, to read and to copy."""

from pathlib import Path

from nas.errors import NasError

TASKS = {"image": "image.py", "text": "text.py"}


def run_file(task: str) -> Path:
    """The run file of a demo. Raises NasError listing those there are."""
    if task not in TASKS:
        raise NasError(f"no demo has the task {task!r}: choose one of {', '.join(TASKS)}")
    return Path(__file__).with_name(TASKS[task])
