"""What is looked at stands in the page's address, so that a link, a reload and the way back show it again.

Within one visit, pages hand the study alone to one another; what else was looked at of it is remembered here.
"""

import hashlib
from collections.abc import Sequence

import streamlit as st

_LONGEST = 120  # characters of a name in an address; servers refuse long ones


def key(name: str) -> str:
    """What stands for a study in an address: its name, or a digest of a very long one."""
    return name if len(name) <= _LONGEST else "~" + hashlib.sha256(name.encode()).hexdigest()[:16]


def named(asked: str, names: Sequence[str]) -> str | None:
    """The study that an address means; None where there is none."""
    return next((name for name in names if asked in (name, key(name))), None)


def enter(page: str, study: str) -> None:
    """On the way from another page, which says the study alone, put back what was looked at of it."""
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
    """One parameter of the address."""
    return st.query_params.get(name, default)


def get_all(name: str) -> list[str]:
    """All values of a parameter."""
    return st.query_params.get_all(name)


def choice(name: str, options: Sequence[str], default: str) -> str:
    """A parameter that is one of the options, or else the default."""
    found = get(name)
    return found if found in options else default


def number(name: str, default: float) -> float:
    """A parameter that is a number, or else the default."""
    try:
        return float(get(name))
    except ValueError:
        return default


def put(name: str, value: str | Sequence[str], default: str | Sequence[str] = "") -> None:
    """Say a parameter; what is the default anyway is left out."""
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
    """What was looked at of a study, by parameter."""
    kept: dict[str, dict[str, list[str]]] = st.session_state.setdefault("kept", {})
    return kept.setdefault(key(study), {})
