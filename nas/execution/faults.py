"""Kill points, for tests: with NAS_KILL_AT=EVENT:N a command kills itself at the Nth event of that name.

Events are those of `sys.audit`, which costs nothing where nobody listens: `nas.trained`, `nas.measured`,
`nas.evaluating`, `nas.evaluated`, `nas.verified` and `nas.judged`, and Python's own, such as `os.rename`, by which a
checkpoint or a file of an export takes its place.
"""

import os
import signal
import sys
from typing import Any

from nas.errors import NasError

VARIABLE = "NAS_KILL_AT"


def arm() -> None:
    """Does so for the rest of this process, if the environment asks for it."""
    if not (text := os.environ.get(VARIABLE, "")):
        return
    name, _, number = text.partition(":")
    if not (name and number.isdigit() and int(number) > 0):
        raise NasError(f"{VARIABLE} is {text!r}: write EVENT:N, such as nas.evaluated:3")
    left = int(number)

    def count(event: str, _: tuple[Any, ...]) -> None:
        nonlocal left
        if event == name:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
