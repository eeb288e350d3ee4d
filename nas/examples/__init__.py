"""Run files to read, to run and to copy: one for each kind of task. `nas init` writes them."""

from pathlib import Path

from nas.errors import NasError

KINDS = {
    "image": "classify images; a front for each of two hardware targets",
    "text": "a language model of the King James Bible",
    "tabular": "predict a number from the columns of a table",
    "series": "forecast a series from its past",
    "pretrained": "make a trained transformer smaller",
    "own": "a task of your own: a model with two outputs, a loss of both",
}
"""What each example does."""


def run_file(kind: str) -> Path:
    """The run file of an example. Raises NasError listing those there are."""
    if kind not in KINDS:
        raise NasError(f"no example is called {kind!r}: choose one of {', '.join(KINDS)}")
    return Path(__file__).with_name(f"{kind}.py")
