"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from nas.migrations import DEFAULT_URL

__all__ = ["DEFAULT_URL", "RUNS", "AsJSON", "RunFile", "Runs", "Storage"]

RUNS = Path("runs")

RunFile = Annotated[Path, typer.Argument(help="Python file with `run = Run(...)` in it.", show_default=False)]
Storage = Annotated[str, typer.Option(envvar="NAS_STORAGE", help="Database, as an SQLAlchemy URL.")]
Runs = Annotated[Path, typer.Option(envvar="NAS_RUNS", help="Folder for checkpoints and exports, one below it a run.")]
AsJSON = Annotated[bool, typer.Option("--json", help="As JSON.")]
