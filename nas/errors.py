"""The root of the errors of this package; `search_spaces.errors` shows the tree of all."""

from search_spaces.errors import UserError

__all__ = ["NasError", "UserError"]


class NasError(UserError, RuntimeError):
    """Something about a run, a study, a target or the database that a user can put right."""
