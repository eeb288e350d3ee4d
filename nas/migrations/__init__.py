"""The schema of the database: its tables, how to open it and how to upgrade an older version.

`tables` defines the newest version, `versions` the steps to it (Alembic); `address` shows URLs without secrets;
`opening` turns a URL into an engine and errors into one line. All other access goes through `nas.storage`.
"""

DEFAULT_URL = "sqlite:///nas.db"
