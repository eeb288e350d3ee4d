"""Who drives a study: at most one process at a time, and a late one is refused.

A driver holds a lease with a token, and renews it as long as it lives. Whoever takes over, once the lease has ended or
its process is seen to be gone, counts the token up; every transaction of a driver compares its own, so that what a
process writes that was paused and woke up late never arrives: the token is what is called a fencing token. Time is the
database's, so the clocks of several machines need not agree. That clock may jump; so a lease that seems to have ended,
of a process that is not seen to be gone, is first watched for as long as a renewal takes.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import sqlalchemy as sa

from nas.errors import NasError
from nas.migrations import tables
from nas.storage.database import Database
from nas.storage.patience import patient

_logger = logging.getLogger(__name__)

LEASE_SECONDS = 20.0
"""How long a driver may be silent before another may take its study over."""
_RENEWALS = 4  # a lease
_WATCHED = 1.5  # times from one renewal to the next: whoever has not renewed the lease meanwhile is silent

_l = tables.leases.c
_driving: set[tuple[str, str, int]] = set()  # url, study and token of every lease that this process holds


@dataclass
class _Held:
    """A lease of this repository."""

    token: int
    seconds: float
    depth: int = 1
    released: threading.Event = field(default_factory=threading.Event)


class Leases(Database):
    """Takes, renews and compares the leases of studies."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._leases: dict[str, _Held] = {}
        sqlite = self._engine.dialect.name == "sqlite"
        text = "(julianday('now') - 2440587.5) * 86400.0" if sqlite else "extract(epoch from clock_timestamp())"
        self._clock: sa.ColumnElement[float] = sa.literal_column(text, sa.Double())

    @contextmanager
    def driving(self, study: str, seconds: float = LEASE_SECONDS) -> Iterator[None]:
        """Makes this repository the one driver of a study, which need not be there yet, for as long as the block runs.

        Args:
            seconds: how long the driver may be silent before another may take over.

        Raises:
            NasError: another process drives it.
        """
        held = self._leases.get(study)
        if held is None:
            self._leases[study] = held = self._taken(study, seconds)
            if (
                not self._in_memory
            ):  # nobody else can see that one, and a thread of its own would share its transactions
                threading.Thread(target=self._renew, args=(study, held), daemon=True).start()
        else:
            held.depth += 1
        try:
            yield
        finally:
            held.depth -= 1
            if not held.depth:
                del self._leases[study]
                _driving.discard((self.url, study, held.token))
                held.released.set()
                self._release(study, held)

    def _taken(self, study: str, seconds: float) -> _Held:
        found = self._take(study, seconds)
        if isinstance(found, _Held):
            return found
        watched_s = found.seconds / _RENEWALS * _WATCHED
        _logger.info("who drove study %s seems silent; waiting for %.1f s to be sure", study, watched_s)
        time.sleep(watched_s)
        taken = self._take(study, seconds, silent=found)
        assert isinstance(taken, _Held)
        return taken

    @patient
    def _take(self, study: str, seconds: float, silent: Any = None) -> Any:
        """The lease as `_Held`; or its row, where it seems to have ended and is to be watched.

        Args:
            silent: that row, once it was watched.
        """
        with self._writing() as connection:
            first = {"study": study, "token": 0, "machine": "", "process": 0, "until": 0.0, "seconds": 0.0}
            connection.execute(self._insert_new(tables.leases), [first])
            query = sa.select(tables.leases, self._clock.label("now")).where(_l.study == study)
            found = connection.execute(query.with_for_update(of=tables.leases)).one()
            if self._may_live(study, found):
                if _is_in_time(found) or (silent is not None and _differ(silent, found)):
                    raise NasError(_driven(study, found))
                if silent is None:
                    return found
            mine = {"token": found.token + 1, "machine": _machine(), "process": os.getpid(), "seconds": seconds}
            values = mine | {"until": self._clock + seconds}
            connection.execute(sa.update(tables.leases).where(_l.study == study).values(values))
        _driving.add((self.url, study, found.token + 1))
        return _Held(found.token + 1, seconds)

    def _renew(self, study: str, held: _Held) -> None:
        """Runs in a thread of its own until the lease is released or lost."""
        mine = (_l.study == study) & (_l.token == held.token)
        while not held.released.wait(held.seconds / _RENEWALS):
            renewal = sa.update(tables.leases).where(mine).values(until=self._clock + held.seconds)
            try:
                with self._writing() as connection:
                    if not connection.execute(renewal).rowcount:
                        return
            except NasError as error:
                _logger.debug("the lease of study %s was not renewed: %s", study, error)

    def _release(self, study: str, held: _Held) -> None:
        mine = (_l.study == study) & (_l.token == held.token)
        try:
            with self._writing() as connection:
                connection.execute(sa.update(tables.leases).where(mine).values(until=0.0))
        except NasError as error:  # whatever ends the driving is the news; the lease ends by itself
            _logger.debug("the lease of study %s was not released: %s", study, error)

    def _check_lease(self, connection: sa.Connection, study: str) -> None:
        """To be called in every transaction that writes to a study; nobody takes it over before that has ended.

        Raises:
            NasError: another process drives the study.
        """
        query = sa.select(tables.leases, self._clock.label("now")).where(_l.study == study)
        found = connection.execute(query.with_for_update(read=True, of=tables.leases)).one_or_none()
        held = self._leases.get(study)
        if held and (found is None or found.token != held.token):
            raise NasError(
                f"study {study!r} was taken over while this process was silent for {held.seconds:g} s or more: what it "
                "found since is not stored; see `nas studies`, and start it again if nobody drives the study"
            )
        if not held and found is not None and self._is_live(study, found):
            raise NasError(_driven(study, found))

    def _is_driven(self, study: str, lease: Any) -> bool:
        """Whether somebody drives a study, by the row of its lease, of which all may be None."""
        return study in self._leases or (lease.token is not None and self._is_live(study, lease))

    def _is_live(self, study: str, lease: Any) -> bool:
        return _is_in_time(lease) and self._may_live(study, lease)

    def _may_live(self, study: str, lease: Any) -> bool:
        """Whether a lease was not given back, and its process is not seen to be gone."""
        if not lease.until > 0:
            return False
        if (lease.machine, lease.process) == (_machine(), os.getpid()):
            return (self.url, study, lease.token) in _driving
        return not _is_gone(lease.machine, lease.process)


def _is_in_time(lease: Any) -> bool:
    """By the database's clock; one that reaches further than it was taken for is of a clock gone wrong."""
    return bool(0 < lease.until - lease.now <= lease.seconds)


def _differ(before: Any, after: Any) -> bool:
    """Whether a lease was renewed or taken meanwhile."""
    return bool((before.token, before.until) != (after.token, after.until))


def _driven(study: str, lease: Any) -> str:
    left = min(max(lease.until - lease.now, 0.0), lease.seconds)  # of a clock that has just jumped it is anything
    who = f"process {lease.process} on {lease.machine.partition(' ')[0]}, heard of {lease.seconds - left:.0f} s ago"
    remedy = "stop that one, wait for it, or search under another name (--name)"
    return f"study {study!r} is driven by {who}: {remedy}; if it is dead, start again in {max(left, 1):.0f} s"


@cache
def _machine() -> str:
    """The host and, where there are several on one, the namespace in which a process has its number."""
    try:
        return f"{socket.gethostname()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def _is_gone(machine: str, process: int) -> bool:
    """Whether a process of this machine has ended; of another machine's that is not known."""
    if machine != _machine() or os.name != "posix":
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False
