"""`nas cluster`: shows the resources of a Ray cluster."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from nas.commands import display
from nas.commands.options import AsJSON

if TYPE_CHECKING:
    from nas.execution.cluster.status import ClusterStatus

app = typer.Typer(help="Show the Ray cluster.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Show the Ray cluster."""


@app.command()
def status(
    cluster: Annotated[
        str, typer.Option(help="Address; auto means RAY_ADDRESS, or the cluster of this machine.")
    ] = "auto",
    as_json: AsJSON = False,
) -> None:
    """Show nodes, resources and workers."""
    from nas.execution.cluster.status import status

    found = status(cluster)
    if as_json:
        sys.stdout.write(json.dumps(asdict(found), indent=2) + "\n")
    else:
        display.say("\n".join(_lines(found)))


def _lines(found: ClusterStatus) -> Iterator[str]:
    total: Counter[str] = Counter()
    for node in found.nodes:
        total.update(node.resources)
    free = ", ".join(f"{found.free.get(name, 0):g} of {n:g} {name}" for name, n in total.items())
    yield f"Ray cluster at {found.address}: {len(found.nodes)} nodes; free are {free or 'no resources'}"
    for node in found.nodes:
        yield f"  {node.address:<20} {', '.join(f'{n:g} {name}' for name, n in node.resources.items())}"
    if not found.workers:
        yield "no search has workers there"
    for driver, workers in found.workers.items():
        host, process = driver.split()
        yield f"workers of the search on {host}, process {process}: {', '.join(workers)}"
