"""The base class of errors for users: every message is one line with the value, the rule and the remedy."""


class NasError(RuntimeError):
    """An error that a user can fix; the command line prints `error: <message>` and exits with status 1."""
