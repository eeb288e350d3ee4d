"""Commands to copy, for the next step with the selected study or network."""

import shlex
from collections.abc import Sequence

from nas.storage import DEFAULT_URL


def export(study: str, digest: str, url: str = DEFAULT_URL) -> str:
    """Return the command that exports a network of a study in the database at `url`."""
    return _written("export", study, digest, digest[:8], url)


def finetune(study: str, digest: str, url: str = DEFAULT_URL) -> str:
    """Return the command that fine-tunes a network from its inherited weights and exports it."""
    return _written("finetune", study, digest, f"{digest[:8]}-finetuned", url)


def front(study: str, where: Sequence[str] = (), url: str = DEFAULT_URL) -> str:
    """Return the command that lists the front under further limits."""
    limits = "".join(f" --where {shlex.quote(limit)}" for limit in where)
    return f"nas front {shlex.quote(study)}{limits}{_storage(url)}"


def _written(command: str, study: str, digest: str, to: str, url: str) -> str:
    return f"nas {command} {shlex.quote(study)} --architecture {digest[:8]} --to {to}{_storage(url)}"


def _storage(url: str) -> str:
    return "" if url == DEFAULT_URL else f" --storage {shlex.quote(url)}"
