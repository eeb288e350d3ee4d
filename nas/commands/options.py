"""Arguments and options that several commands share."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from nas.errors import NasError
from nas.migrations import DEFAULT_URL

__all__ = ["DEFAULT_URL", "RUNS", "AsJSON", "RunFile", "Runs", "Storage", "refuse_misplaced_urls"]

RUNS = Path("runs")

RunFile = Annotated[Path, typer.Argument(help="Python file with `run = Run(...)` in it.", show_default=False)]
Storage = Annotated[str, typer.Option(envvar="NAS_STORAGE", help="Database, as an SQLAlchemy URL.")]
Runs = Annotated[
    Path, typer.Option(envvar="NAS_RUNS", help="Folder for checkpoints and exports, with a subfolder per run.")
]
Cluster = Annotated[str | None, typer.Option(help="Work on Ray: auto, local or an address. Default: this machine.")]
Workers = Annotated[
    int | None,
    typer.Option(
        min=1, show_default=False, help="Worker processes. Default: 2 on a cluster, otherwise none beside this process."
    ),
]
Trainers = Annotated[
    int,
    typer.Option(
        min=1, help="Processes that train the supernet together, this one among them, each a share of every batch."
    ),
]
Timeout = Annotated[
    float | None,
    typer.Option(
        show_default=False, help="Longest time for an evaluation, in seconds; then it is killed and recorded as failed."
    ),
]
AsJSON = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_TAKE_URLS = (("storage", "copy"), ("storage", "mirror"))  # commands that take further URLs


def refuse_misplaced_urls(arguments: Sequence[str]) -> None:
    """Raise NasError for a URL with '@' in another argument, since error messages would repeat its password."""
    words = [argument for argument in arguments if not argument.startswith("-")]
    if tuple(words[:2]) in _TAKE_URLS:
        return
    for before, argument in zip(["", *arguments], arguments, strict=False):
        given = before == "--storage" or argument.startswith("--storage=")
        if not given and "://" in argument and "@" in argument:
            raise NasError("a database URL stands where none is asked for; write it after --storage, or in NAS_STORAGE")
