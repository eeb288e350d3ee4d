"""`nas storage`: upgrade, check, copy, export and import the database of results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.commands.lazy import lazily
from nas.commands.options import DEFAULT_URL, Storage
from nas.errors import NasError

if TYPE_CHECKING:
    from nas import storage as databases
    from nas.commands import display, session
else:
    display, session, databases = map(lazily, ("nas.commands.display", "nas.commands.session", "nas.storage"))

app = typer.Typer(help="Manage the database of results.", no_args_is_help=True)


@app.command()
def upgrade(storage: Storage = DEFAULT_URL) -> None:
    """Create a database, or migrate an old one."""
    before, after = databases.Repository.upgrade(storage)
    was = {None: "created", after: "no upgrade needed"}.get(before, f"upgraded from {before}")
    display.say(f"{session.shown(storage)} is at version {after}: {was}")


@app.command(name="check")
def check_storage(
    storage: Storage = DEFAULT_URL,
    forget: Annotated[
        bool, typer.Option("--forget", help="Remove damaged evaluations; a resumed search repeats them.")
    ] = False,
) -> None:
    """Check a database for damage.

    Examines its file, its references and the digest of every row.
    """
    from nas.storage.checking import problems

    with databases.Repository(storage, read_only=not forget) as repository:
        if forget:
            for study in repository.studies():
                if positions := repository.damaged_positions(study.name):
                    repository.forget(study.name, positions)
                    display.say(
                        f"{study.name}: {len(positions)} damaged evaluations taken out; nas resume {study.name}"
                    )
        found = list(problems(repository))
        for problem in found:
            display.say(problem)
        if found:
            remedy = "bring it back from a copy; --forget takes out damaged evaluations, to be evaluated again"
            raise NasError(f"{repository.url} has {len(found)} problems: {remedy}")
        display.say(f"{repository.url}: all is as it was stored")


@app.command("copy")
def copy_database(
    source: Annotated[str, typer.Argument(help="Database to read, as an SQLAlchemy URL.", show_default=False)],
    destination: Annotated[str, typer.Argument(help="Database to write, created if missing.", show_default=False)],
    study: Annotated[str | None, typer.Option(help="Copy only this study, with what it needs.")] = None,
) -> None:
    """Copy a database or one study.

    From SQLite to PostgreSQL, for example, and back.
    """
    from nas.storage.copying import copy

    with session.reading(source) as here, databases.Repository(destination) as there:
        copy(here, there, study, lambda name, num: display.say(f"{name}: {num:,} evaluations"))
        display.say(f"copied {here.url} to {there.url}")


@app.command("export")
def export_study(
    study: Annotated[str, typer.Argument(help="Name of the study.", show_default=False)],
    folder: Annotated[Path, typer.Argument(help="Folder to write, new or empty.", show_default=False)],
    storage: Storage = DEFAULT_URL,
) -> None:
    """Write a study as Parquet and JSON files.

    With the hash of every file.
    """
    from nas.storage.folders import export_study

    with session.reading(storage) as repository:
        num = export_study(repository, study, folder)
    display.say(f"{study}: {num:,} evaluations written to {folder}")


@app.command("import")
def import_study(
    folder: Annotated[Path, typer.Argument(help="Folder that `nas storage export` wrote.", show_default=False)],
    storage: Storage = DEFAULT_URL,
) -> None:
    """Read a study from exported files.

    Their hashes are compared first.
    """
    from nas.storage.folders import import_study

    with databases.Repository(storage) as repository:
        study, num = import_study(folder, repository)
        display.say(f"{study}: {num:,} evaluations are in {repository.url}")


@app.command()
def mirror(
    study: Annotated[str, typer.Argument(help="Name of the study.", show_default=False)],
    to: Annotated[str, typer.Option(help="Optuna's database, as an SQLAlchemy URL; created if missing.")],
    storage: Storage = DEFAULT_URL,
) -> None:
    """Copy a study into an Optuna database.

    For tools such as optuna-dashboard. Run it again to add new evaluations.
    """
    from nas.storage.mirroring import mirror

    with session.reading(storage) as repository:
        num = mirror(repository, study, to)
    display.say(f"{study}: {num:,} new trials")
