"""The root of what this package tells its users: every error is one line with the value, the rule and the remedy."""


class NasError(RuntimeError):
    """Something a user can put right; the command line prints `error: <message>` and ends with status 1."""
