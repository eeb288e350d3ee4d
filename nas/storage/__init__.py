"""The database of results, the only state from which a study resumes: it takes and returns frozen records.

One class, `Repository`, works on SQLite (`sqlite:///nas.db`) and PostgreSQL
(`postgresql+psycopg://user@host/database`). Tables and rows are private to this package and `nas/migrations`.

Durability: the repository stores each evaluation at once, in its own transaction. SQLite runs in write-ahead mode with
`synchronous=NORMAL`: committed transactions survive a crash of the process; a power cut never damages the file but may
undo the last commits (https://www.sqlite.org/pragma.html#pragma_synchronous). A resumed study evaluates lost networks
again, so this is the default; `synchronous="FULL"` waits for the disk at every commit instead.

Evaluations of a study never change. The key of an evaluation is (weights, architecture, data); a later, different
evaluation with the same key (a retry after a failure, further metrics) is stored as another attempt. Each study refers
to the attempt that it used; `known_evaluations` merges the attempts for other studies.
"""

from __future__ import annotations

from nas.migrations import DEFAULT_URL
from nas.storage.hardware import Hardware
from nas.storage.keeping import Keeping


class Repository(Keeping, Hardware):
    """Reads and writes spaces, supernets, studies, hardware targets and latency predictors.

    `nas.storage.database.Database` documents how to open it; each base class documents what it stores.
    """


__all__ = ["DEFAULT_URL", "Repository"]
