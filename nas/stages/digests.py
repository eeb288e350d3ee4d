"""Digests of JSON values, by which stored results are found again."""

import hashlib
import json
from typing import Any


def digest(value: Any) -> str:
    """16 hexadecimal digits that identify a value of plain JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
