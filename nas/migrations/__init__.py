"""The database as such: its tables, how it is opened and how an older one is brought up to date.

`tables` holds the newest version, `versions` the steps to it (Alembic), `address` knows what of a URL may be told,
`opening` turns a URL into an engine and a failure into one line. Everything else goes through `nas.storage`.
"""

DEFAULT_URL = "sqlite:///nas.db"
