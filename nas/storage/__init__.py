"""The database of results, the only truth a study resumes from: frozen records in, frozen records out.

One class, `Repository`, on SQLite (`sqlite:///nas.db`) or PostgreSQL (`postgresql+psycopg://user@host/database`).
Tables and rows stay private to this package and `nas/migrations`.

Durability. An evaluation is stored as it comes, in a transaction of its own. SQLite runs in write-ahead mode with
`synchronous=NORMAL`: what is committed survives the death of the process, however sudden, and a power cut never damages
the file but may take back the last commits (https://www.sqlite.org/pragma.html#pragma_synchronous). What is lost is
evaluated again on resuming, hence the default; `synchronous="FULL"` waits for the disk at every commit instead.

What a study was told never changes. An evaluation is keyed by (weights, architecture, data), and a second, different
one of the same key (a retry after a failure, further metrics) is kept beside the first as another attempt. Each study
points at the attempt it saw; `known_evaluations` merges the attempts for other studies.
"""

from __future__ import annotations

from nas.migrations import DEFAULT_URL
from nas.storage.hardware import Hardware
from nas.storage.keeping import Keeping


class Repository(Keeping, Hardware):
    """Reads and writes all that is known of spaces, supernets, studies, hardware targets and latency predictors.

    How it is opened is told by `nas.storage.database.Database`, what it holds by the files of its parts.
    """


__all__ = ["DEFAULT_URL", "Repository"]
