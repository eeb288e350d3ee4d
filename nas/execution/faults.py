"""Kill points for tests: with NAS_KILL_AT=EVENT:N, a command kills itself at the Nth event of that name.

The events are those of `sys.audit`, which costs nothing without a hook: `nas.trained`, `nas.measured`,
`nas.evaluating`, `nas.evaluated`, `nas.verified` and `nas.judged`, and Python's own, such as `os.rename`, which
completes a checkpoint or an exported file.
"""

import os
import signal
import sys
from typing import Any

from nas.errors import NasError

VARIABLE = "NAS_KILL_AT"


def arm() -> None:
    """Install the kill point if the environment variable is set.

    Raises:
        NasError: the variable is malformed.
    """
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
