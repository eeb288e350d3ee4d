"""`nas init`: write a run file to start from, which runs as it is."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.commands.lazy import lazily
from nas.errors import NasError
from nas.examples import KINDS, run_file

if TYPE_CHECKING:
    from nas.commands import display
else:
    display = lazily("nas.commands.display")

_KINDS = "; ".join(f"{kind}: {what}" for kind, what in KINDS.items())


def init(
    output: Annotated[Path, typer.Argument(help="File to write, e.g. my_run.py.", show_default=False)],
    task: Annotated[str, typer.Option(help=f"Kind of task. {_KINDS}.")] = "image",
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> None:
    """Write a commented run file.

    It runs as it is; put your own data and model into it.
    """
    write(task, output, force=force)
    display.say(
        f"wrote {output}: run it with  nas search {shlex.quote(str(output))}  and put your data in its third part"
    )


def write(kind: str, output: Path, *, force: bool = False) -> None:
    """The example of a kind in a file of its own, its study named after the file.

    Raises:
        NasError: there is no such kind, the file is there and not to be overwritten, or its name does not end in .py.
    """
    example = run_file(kind)
    if output.suffix != ".py":
        raise NasError(f"{output}: a run file is Python, give a name that ends in .py")
    if output.exists() and not force:
        raise NasError(f"{output} exists: give another name, or say --force to overwrite it")
    text = example.read_text(encoding="utf-8").replace(f"nas search {kind}.py", f"nas search {output.name}")
    text = text.replace(f'name="{kind}"', f'name="{_study(output.stem)}"')
    with output.open("w" if force else "x", encoding="utf-8") as file:
        file.write(text)


def _study(stem: str) -> str:
    """As a study may be called."""
    return re.sub(r"[^A-Za-z0-9_.-]+|^[^A-Za-z0-9]+", "-", stem).strip("-") or "mine"
