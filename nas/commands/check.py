"""`nas check`: checks the files of an exported network, or of a run's checkpoints, for changes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.commands.lazy import lazily
from nas.errors import NasError

if TYPE_CHECKING:
    from nas.commands import display
else:
    display = lazily("nas.commands.display")

_GIVE = "give the folder that nas export wrote, or runs/NAME"
_EXPORTED = "write an exported network again with nas export, or copy its whole folder again"
_TRAINED = "leave checkpoints as they are: nas search goes on from the newest that is whole"


def check(
    folder: Annotated[Path, typer.Argument(help="Folder of an exported network, or of a run.", show_default=False)],
) -> None:
    """Check exports or checkpoints for damage.

    Compares the files with their hashes; runs none of their code.
    """
    from supernets import export

    if not folder.is_dir():
        raise NasError(f"{folder} is no folder: {_GIVE}")
    found = list(_found(folder))
    if not found:
        raise NasError(f"{folder} holds neither an exported network nor checkpoints: {_GIVE}")
    for path, wrong, _ in found:
        display.results([f"{path.relative_to(folder)}: {wrong or 'as it was written'}"])
    damaged = [(path.relative_to(folder), remedy) for path, wrong, remedy in found if wrong]
    if damaged:
        remedies = "; ".join(dict.fromkeys(remedy for _, remedy in damaged))
        raise NasError(f"{len(damaged)} of {len(found)} files in {folder} differ, {damaged[0][0]} first: {remedies}")
    if export.is_export(folder):
        display.results([f"fingerprint: {export.fingerprint(folder)}"])


def _found(folder: Path) -> Iterator[tuple[Path, str | None, str]]:
    """Yield every file of the folder, with or without a hash, its problem (None if sound), and the remedy."""
    from supernets import checkpoints, export

    exported = export.is_export(folder)
    files = export.check(folder) if exported else checkpoints.check(folder)
    yield from ((folder / name, wrong, _EXPORTED if exported else _TRAINED) for name, wrong in files.items())
    below = () if exported else sorted(folder.iterdir())
    for place in below:
        if place.is_dir() and not place.is_symlink() and not place.name.startswith("."):
            yield from _found(place)
