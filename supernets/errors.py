"""The errors a user of supernets can meet, as a tree."""

from search_spaces.errors import UserError


class SupernetError(UserError, RuntimeError):
    """Something about a supernet, its model, its training or its files; the message names value, rule and remedy."""


class BuildError(SupernetError):
    """The user's ``build(arch)`` failed or returned something other than a module."""


class ShapeError(SupernetError):
    """Two architectures give one parameter shapes that cannot share weights."""


class UnequalPartsError(ShapeError):
    """Choices change parts of unequal sizes in one parameter, so the parts must be stored separately."""


class MemoryLimitError(SupernetError):
    """The supernet would not fit into the available memory."""


class CompressionError(SupernetError):
    """A trained network cannot be scored, pruned, merged or reconstructed as requested."""


class ExportError(SupernetError):
    """A network, or the code that builds it, cannot be exported as files that run without this package."""
