"""Digests of JSON values, which are keys of stored results."""

import hashlib
import json
from typing import Any


def digest(value: Any) -> str:
    """Return 16 hexadecimal digits that identify a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
