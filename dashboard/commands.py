"""Commands to copy: what `nas` does next with what is looked at."""

import shlex
from collections.abc import Sequence

from nas.storage import DEFAULT_URL


def export(study: str, digest: str, url: str = DEFAULT_URL) -> str:
    """Write one network of a study in the database at `url` to files."""
    return _written("export", study, digest, digest[:8], url)


def finetune(study: str, digest: str, url: str = DEFAULT_URL) -> str:
    """Train it further from its inherited weights, then write it."""
    return _written("finetune", study, digest, f"{digest[:8]}-finetuned", url)


def front(study: str, where: Sequence[str] = (), url: str = DEFAULT_URL) -> str:
    """List the front under further limits."""
    limits = "".join(f" --where {shlex.quote(limit)}" for limit in where)
    return f"nas front {shlex.quote(study)}{limits}{_storage(url)}"


def _written(command: str, study: str, digest: str, to: str, url: str) -> str:
    return f"nas {command} {shlex.quote(study)} --architecture {digest[:8]} --to {to}{_storage(url)}"


def _storage(url: str) -> str:
    return "" if url == DEFAULT_URL else f" --storage {shlex.quote(url)}"
