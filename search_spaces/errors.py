"""The root of all errors that users can put right, and the one error of this package.

    UserError
    ├── SpaceError         (search_spaces)
    ├── SupernetError      (supernets)
    └── NasError           (nas)

Every message is one line with the value, the rule and the remedy.
"""


class UserError(Exception):
    """Something a user can put right; the command line prints `error: <message>` and ends with status 1."""


class SpaceError(UserError, ValueError):
    """A space, an architecture or a request that cannot be."""
