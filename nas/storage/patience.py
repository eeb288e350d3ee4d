"""Retries calls while the database does not answer, and logs it in one line."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from sqlalchemy import exc

from nas.errors import NasError

_logger = logging.getLogger(__name__)

_P = ParamSpec("_P")
_R = TypeVar("_R")


class Patient(Protocol):
    """An object that waits for its database."""

    patience: float
    has_given_up: bool

    @property
    def url(self) -> str: ...


_D = TypeVar("_D", bound=Patient)

PATIENCE_S = 300.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 5.0


def patient(method: Callable[Concatenate[_D, _P], _R]) -> Callable[Concatenate[_D, _P], _R]:
    """Retry a method while the database does not answer, for up to the repository's `patience` in seconds.

    A lost answer leaves open whether the transaction was committed, so use this only on idempotent methods.

    Raises:
        NasError: the database did not answer for that long.
    """

    @wraps(method)
    def repeated(self: _D, /, *arguments: _P.args, **settings: _P.kwargs) -> _R:
        began, pause = time.monotonic(), _FIRST_PAUSE_S
        while True:
            try:
                found = method(self, *arguments, **settings)
            except NasError as error:
                if not _is_outage(error.__cause__) or not self.patience:
                    raise
                waited = time.monotonic() - began
                if waited >= self.patience or self.has_given_up:
                    self.has_given_up = True  # later calls, such as those that clean up, do not wait again
                    raise NasError(_gave_up(self, error)) from error
                if pause == _FIRST_PAUSE_S:
                    _logger.warning("%s; waiting up to %g s for it, nothing is lost", error, self.patience)
                time.sleep(min(pause, self.patience - waited))
                pause = min(2 * pause, _LONGEST_PAUSE_S)
            else:
                if pause > _FIRST_PAUSE_S:
                    _logger.warning("%s answers again after %.0f s", self.url, time.monotonic() - began)
                self.has_given_up = False
                return found

    return repeated


def _is_outage(cause: BaseException | None) -> bool:
    """Return whether waiting may help: no server, a lost connection, or a lock held by another process."""
    if not isinstance(cause, exc.DBAPIError):
        return False
    if type(cause.orig).__module__ == "sqlite3":
        return "locked" in str(cause.orig) or "busy" in str(cause.orig)
    return cause.connection_invalidated or isinstance(cause, (exc.OperationalError, exc.InterfaceError))


def _gave_up(database: Patient, error: NasError) -> str:
    remedy = "what was stored is safe: when it answers, give the same command again and it goes on from there"
    return f"{error} (waited {database.patience:g} s); {remedy}"
