"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

RUNS = Path("runs")

RunFile = Annotated[Path, typer.Argument(help="Python file with `run = Run(...)` in it.", show_default=False)]
Storage = Annotated[str, typer.Option(envvar="NAS_STORAGE", help="Database, as an SQLAlchemy URL.")]
Runs = Annotated[Path, typer.Option(envvar="NAS_RUNS", help="Folder for checkpoints and exports, one below it a run.")]
Cluster = Annotated[
    str | None, typer.Option(help="Evaluate on Ray: auto, local or an address; without it on this machine.")
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=1, show_default=False, help="Processes that evaluate; if left out 2 of a cluster, and else this process."
    ),
]
Timeout = Annotated[
    float | None,
    typer.Option(show_default=False, help="Seconds an evaluation may take; then its process is killed and it failed."),
]
AsJSON = Annotated[bool, typer.Option("--json", help="As JSON.")]
