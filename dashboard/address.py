"""Keeps the selection in the page's URL, so that links, reloads and the back button restore it.

Links between pages contain only the study; this module remembers the rest of the selection during a visit.
"""

import hashlib
from collections.abc import Sequence

import streamlit as st

_LONGEST = 120  # characters of a name in an address; servers refuse long ones


def key(name: str) -> str:
    """Return the key of a study in a URL: its name, or a digest of a very long name."""
    return name if len(name) <= _LONGEST else "~" + hashlib.sha256(name.encode()).hexdigest()[:16]


def named(asked: str, names: Sequence[str]) -> str | None:
    """Return the study of a key; None if there is none."""
    return next((name for name in names if asked in (name, key(name))), None)


def enter(page: str, study: str) -> None:
    """Restore the earlier selection on a page reached from another page, whose link contains only the study."""
    state, params = st.session_state, st.query_params
    came, state["page"] = state.get("page") != page, page
    if came and set(params) <= {"study"}:
        for name, values in list(_kept(study).items()):
            params[name] = values
    params["study"] = key(study)
    kept = _kept(study)
    kept.clear()
    kept.update({name: params.get_all(name) for name in params if name != "study"})


def get(name: str, default: str = "") -> str:
    """Return a parameter of the URL."""
    return st.query_params.get(name, default)


def get_all(name: str) -> list[str]:
    """Return all values of a parameter."""
    return st.query_params.get_all(name)


def choice(name: str, options: Sequence[str], default: str) -> str:
    """Return a parameter if it is one of the options, else the default."""
    found = get(name)
    return found if found in options else default


def number(name: str, default: float) -> float:
    """Return a parameter as a number, or the default if it is none."""
    try:
        return float(get(name))
    except ValueError:
        return default


def put(name: str, value: str | Sequence[str], default: str | Sequence[str] = "") -> None:
    """Set a parameter; remove it if it is the default or empty."""
    params = st.query_params
    wanted = [] if value == default or not value else [value] if isinstance(value, str) else list(value)
    if params.get_all(name) != wanted:
        if wanted:
            params[name] = wanted
        else:
            del params[name]
    kept = _kept(params.get("study", ""))
    kept.pop(name, None)
    if wanted:
        kept[name] = wanted


def _kept(study: str) -> dict[str, list[str]]:
    """Return the remembered parameters of a study."""
    kept: dict[str, dict[str, list[str]]] = st.session_state.setdefault("kept", {})
    return kept.setdefault(key(study), {})
