"""Logging: to stderr for people, and to a file for programs, one JSON object per line."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path


def set_up(levels: Mapping[str, int], file: Path | None) -> None:
    """Log to stderr from each package's level on, and to a file from INFO on.

    Args:
        levels: levels of stderr by package; WARNING for packages that are not named.
        file: None writes no file; lines are appended to an existing one.
    """
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    for package, level in levels.items():
        logging.getLogger(package).setLevel(level)
    if file is None:
        return
    console = logging.getLogger().handlers[0]
    console.addFilter(lambda record: record.levelno >= levels.get(record.name.partition(".")[0], logging.WARNING))
    written = logging.FileHandler(file, encoding="utf-8")
    written.setLevel(logging.INFO)
    written.setFormatter(_AsJSON())
    for package, level in levels.items():
        logger = logging.getLogger(package)
        logger.setLevel(min(level, logging.INFO))
        logger.addHandler(written)


class _AsJSON(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        told = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        return json.dumps(told | ({"trace": self.formatException(record.exc_info)} if record.exc_info else {}))


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Silence optuna, which warns that conditional spaces are experimental and announces every study on stderr."""
    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)
