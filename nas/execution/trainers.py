"""Starts processes that train a run's supernet together with this one: on this machine, or actors of Ray."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from nas.errors import NasError
from nas.execution.executors import Deferred, Evaluate
from nas.execution.placement import Placement
from nas.execution.pool import START_TIMEOUT_S, Answer, Died, Ready, Workers
from nas.run import Run
from nas.run_file import load
from nas.stages import evaluators
from search_spaces import Architecture
from supernets import training
from supernets.teams import LostError, Team
from supernets.training import TrainingConfig

_REASON_S = 5.0
"""Seconds to wait for the reason why a worker ended."""


@dataclass(frozen=True)
class Meeting:
    """Where the members of a team connect: a file that all of them can read, and the first member's address."""

    place: str
    size: int
    host: str

    def join(self, rank: int) -> Team:
        return Team.meet(self.place, rank, self.size, self.host)


@contextmanager
def gathered(run_file: Path, run: Run, folder: Path, placement: Placement) -> Iterator[Team]:
    """Yield the team of this process and the workers that train the run with it; the workers end with the block.

    Args:
        folder: for the file through which the team connects; on a cluster, all machines must share it.

    Raises:
        NasError: a worker could not start or was lost; the message gives the reason.
    """
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / f".meeting-{uuid.uuid4().hex}"
    others = range(1, placement.trainers)
    workers = placement.workers_for(len(others))
    try:
        meeting = Meeting(str(place), placement.trainers, workers.host())
        for rank in others:
            workers.hold(Deferred(partial(helping, str(run_file), run.sharing, run.training, meeting, rank)))
            workers.begin(rank)
        _wait_for(workers, set(others))
        for rank in others:
            workers.evaluate(rank, run.space.largest())
        team = meeting.join(0)
        try:
            yield team
        except LostError as error:
            raise NasError(_told(workers, error)) from error
        finally:
            team.leave()
    finally:
        for rank in others:
            workers.end(rank)
        workers.close()
        place.unlink(missing_ok=True)


def _wait_for(workers: Workers, starting: set[int]) -> None:
    """Wait until all workers have loaded the run; raise NasError if one fails or is late."""
    while starting:
        answers = workers.answers(START_TIMEOUT_S)
        if not answers:
            late = f"{len(starting)} training workers were not ready within {START_TIMEOUT_S:g} s"
            raise NasError(f"{late}{workers.room()}: ask for fewer")
        for answer in answers:
            if reason := _reason(answer):
                raise NasError(f"a training worker could not start: {reason}")
            starting.discard(answer.worker)


def _told(workers: Workers, error: LostError) -> str:
    """Return why a worker was lost, as far as known, and the remedy."""
    reasons = [reason for answer in workers.answers(_REASON_S) if (reason := _reason(answer))]
    causes = [reason for reason in reasons if LostError.__name__ not in reason] or reasons
    return f"{causes[0]}: {error}" if causes else str(error)


def _reason(answer: Answer) -> str:
    """Return why a worker failed; empty if it did not."""
    if isinstance(answer, Ready):
        return answer.failure
    return answer.reason if isinstance(answer, Died) else answer.row["error"] or ""


# -- within a worker's process


def helping(run_file: str, sharing: str, config: TrainingConfig, meeting: Meeting, rank: int) -> Evaluate:
    """Return the evaluator of a team's member: one call trains with the team and returns the number of steps.

    The initial weights come from the first member, so this one only needs the shapes.
    """
    logging.getLogger("supernets").setLevel(logging.ERROR)  # the first member logs
    run = replace(load(run_file), sharing=sharing, training=config)
    supernet = evaluators.untrained(run, sort=False)

    def train(_: Architecture) -> Mapping[str, float]:
        team = meeting.join(rank)
        try:
            found = training.train(supernet, run.task, config, progress=False, origin=run.sort, team=team)
        finally:
            team.leave()
        return {"steps": float(found.steps)}

    return train
