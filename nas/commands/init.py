"""`nas init`: writes a run file to start from, which runs unchanged."""

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
    """Write the example of a kind to a file; its study has the name of the file.

    Raises:
        NasError: the kind does not exist, the file exists and `force` is False, or its name does not end in .py.
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
    """Return the stem as a valid name of a study."""
    return re.sub(r"[^A-Za-z0-9_.-]+|^[^A-Za-z0-9]+", "-", stem).strip("-") or "mine"
