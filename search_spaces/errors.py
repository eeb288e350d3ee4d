"""The one error of this package: a space, an architecture or a request that cannot be."""


class SpaceError(ValueError):
    """One line naming the value, the rule and the remedy."""
