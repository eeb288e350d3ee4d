"""The errors a user of supernets can meet, as a tree."""

from search_spaces.errors import UserError


class SupernetError(UserError, RuntimeError):
    """Something about a supernet, its model, its training or its files; the message names value, rule and remedy."""


class BuildError(SupernetError):
    """The user's ``build(arch)`` failed or gave something other than a module."""


class ShapeError(SupernetError):
    """Two architectures give one parameter shapes that cannot share weights."""


class UnequalPartsError(ShapeError):
    """Parts of unequal sizes in one parameter move, so they must be held part by part."""


class MemoryLimitError(SupernetError):
    """The supernet would not fit into the memory there is."""


class CompressionError(SupernetError):
    """A trained network that cannot be scored, pruned, merged or reconstructed as asked."""


class ExportError(SupernetError):
    """A network, or the code that builds it, that cannot be written as files that run without this package."""
