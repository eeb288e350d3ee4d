"""`nas shrink`: find options that no good network of a study needs, and search the rest."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from nas.commands.lazy import lazily
from nas.commands.options import DEFAULT_URL, RUNS, AsJSON, Runs, Storage
from nas.errors import NasError

if TYPE_CHECKING:
    from nas.commands import display, session
else:
    display, session = map(lazily, ("nas.commands.display", "nas.commands.session"))


def shrink(
    study: Annotated[str, typer.Argument(help="Name of a study; `nas studies` lists them.", show_default=False)],
    to: Annotated[
        str, typer.Option(metavar="NAME", help="Search what is left with the same weights, as study NAME.")
    ] = "",
    tolerance: Annotated[
        float, typer.Option(help="Share of the front's hypervolume that all closed options together may cost.")
    ] = 0.01,
    confidence: Annotated[float, typer.Option(help="Confidence level of the estimated loss.")] = 0.9,
    least: Annotated[int, typer.Option(help="Fewest evaluated networks to judge an option by.")] = 10,
    storage: Storage = DEFAULT_URL,
    runs: Runs = RUNS,
    as_json: AsJSON = False,
) -> None:
    """Find options that no good network needs.

    Prints the evidence; --to NAME searches the space without them.
    """
    if to and as_json:
        raise NasError("--json tells what would be closed and --to searches: give one of them")
    from nas.stages import studying

    with session.study_workflow(study, storage, runs) as workflow:
        if to in {known.name for known in workflow.repository.studies()}:
            raise NasError(f"there is a study {to!r} already: go on with nas resume {to}, or give another name")
        found = studying.shrunk(workflow, study, tolerance=tolerance, confidence=confidence, least=least)
        if as_json:
            sys.stdout.write(json.dumps(found.as_json(), indent=2) + "\n")
            return
        display.shrunk(study, found, workflow.run.searched)
        if not to:
            if found.closed:
                display.say(f"search what is left: nas shrink {study} --to NAME{session.places(storage, runs)}")
            return
        if not found.closed:
            raise NasError(f"nothing of study {study!r} can be closed, so there is nothing narrower to search")
        if workflow.run.trains:
            workflow.require_trained(study)
        workflow.run = replace(workflow.run, name=to)
        studying.search_within(workflow, found, study)
        session.search(workflow)
        session.outlook(to, storage, runs)
