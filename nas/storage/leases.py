"""Leases: at most one process drives a study at a time.

A driver holds a lease with a token and renews it while it lives. A process may take the study over once the lease has
expired or its holder has visibly ended; it then increments the token. Every transaction of a driver checks its token (a
fencing token), so late writes of a paused process are rejected. All times come from the database, so the clocks of
several machines need not agree. Since that clock may jump, a process first watches an expired lease for longer than a
renewal takes, unless the holder has visibly ended.
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
"""Seconds without a renewal after which another process may take a study over."""
_RENEWALS = 4  # per lease
_WATCHED = 1.5  # how long to watch a lease for a renewal, in intervals between renewals

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
    """Takes, renews, checks and releases the leases of studies."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._leases: dict[str, _Held] = {}
        sqlite = self._engine.dialect.name == "sqlite"
        text = "(julianday('now') - 2440587.5) * 86400.0" if sqlite else "extract(epoch from clock_timestamp())"
        self._clock: sa.ColumnElement[float] = sa.literal_column(text, sa.Double())

    @contextmanager
    def driving(self, study: str, seconds: float = LEASE_SECONDS) -> Iterator[None]:
        """Make this repository the only driver of a study within the block; the study need not exist yet.

        Args:
            seconds: time without a renewal after which another process may take over.

        Raises:
            NasError: another process drives the study.
        """
        held = self._leases.get(study)
        if held is None:
            self._leases[study] = held = self._taken(study, seconds)
            if (
                not self._in_memory
            ):  # no other process sees a database in memory, and a second thread would share its transactions
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
        """Return the taken lease as `_Held`, or the row of an expired lease that must be watched first.

        Args:
            silent: the row of the watched lease, on the second call.

        Raises:
            NasError: another process drives the study.
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
        """Renew the lease until it is released or lost; runs in its own thread."""
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
        except NasError as error:  # not worth hiding the caller's own error: the lease expires anyway
            _logger.debug("the lease of study %s was not released: %s", study, error)

    def _check_lease(self, connection: sa.Connection, study: str) -> None:
        """Check the lease in a transaction that writes to a study, and lock it until the transaction ends.

        Raises:
            NasError: another process drives the study, or has taken it over.
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
        """Return whether a process drives a study; the columns of its lease are None if it has none."""
        return study in self._leases or (lease.token is not None and self._is_live(study, lease))

    def _is_live(self, study: str, lease: Any) -> bool:
        return _is_in_time(lease) and self._may_live(study, lease)

    def _may_live(self, study: str, lease: Any) -> bool:
        """Return whether a lease was not released and its process has not visibly ended."""
        if not lease.until > 0:
            return False
        if (lease.machine, lease.process) == (_machine(), os.getpid()):
            return (self.url, study, lease.token) in _driving
        return not _is_gone(lease.machine, lease.process)


def _is_in_time(lease: Any) -> bool:
    """Return whether a lease is current by the database's clock; False if the clock has jumped backwards."""
    return bool(0 < lease.until - lease.now <= lease.seconds)


def _differ(before: Any, after: Any) -> bool:
    """Return whether a lease was renewed or taken meanwhile."""
    return bool((before.token, before.until) != (after.token, after.until))


def _driven(study: str, lease: Any) -> str:
    left = min(max(lease.until - lease.now, 0.0), lease.seconds)  # clipped, since the clock may have jumped
    who = f"process {lease.process} on {lease.machine.partition(' ')[0]}, heard of {lease.seconds - left:.0f} s ago"
    remedy = "stop that one, wait for it, or search under another name (--name)"
    return f"study {study!r} is driven by {who}: {remedy}; if it is dead, start again in {max(left, 1):.0f} s"


@cache
def _machine() -> str:
    """Return the host name and, on Linux, the PID namespace: several may share one host."""
    try:
        return f"{socket.gethostname()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def _is_gone(machine: str, process: int) -> bool:
    """Return whether a process of this machine has ended; False for another machine, where this is unknown."""
    if machine != _machine() or os.name != "posix":
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False
