"""What all pages share: the open database, the study being looked at, headings, notes and live refresh."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import plotly.graph_objects as go
import streamlit as st

from dashboard import queries
from dashboard.queries import StudyView
from nas import corrected
from nas.errors import NasError
from nas.records import Evaluation, SpaceRecord, StudyRecord
from nas.storage import Repository
from nas.units import metric

REFRESH_SECONDS = 3
STYLE = """<style>
[data-testid="stMainBlockContainer"] { padding: 2.4rem 3rem 3rem; max-width: 1560px; }
[data-testid="stMetricValue"] { font-size: 1.45rem; }
[data-testid="stMetricLabel"] { color: #5f6b7a; }
[data-testid="stSidebar"] { width: 248px !important; min-width: 248px; }
[data-testid="stSidebarHeader"] { height: 2.6rem; }
[data-testid="stHeader"] { background: transparent; }
</style>"""
"""Less empty space above the title, and calmer numbers; everything else is the theme's."""


_entered: ContextVar[bool] = ContextVar("entered", default=False)


@contextmanager
def entered() -> Iterator[None]:
    """While the entry point runs a page."""
    token = _entered.set(True)
    try:
        yield
    finally:
        _entered.reset(token)


def is_entered() -> bool:
    """Whether the entry point runs this page, rather than Streamlit by itself."""
    return _entered.get()


@st.cache_resource(show_spinner=False)
def _repository(url: str) -> Repository:
    return Repository(url, read_only=True)


def open_database(url: str) -> None:
    """Open the database once for all readers.

    Raises:
        NasError: it cannot be read.
    """
    st.session_state["url"] = url
    repository()


def repository() -> Repository:
    return _repository(st.session_state["url"])


def show_sidebar(whole: Sequence[st.Page], chosen: Sequence[st.Page]) -> None:
    """The pages of the whole database, and below them the study being looked at with its own."""
    names = [study.name for study in repository().studies()]
    with st.sidebar:
        for page in whole:
            st.page_link(page)
        if names:
            _pick_study(names)
            for page in chosen:
                st.page_link(page, query_params={"study": st.session_state["study"]})
        url = repository().url
        st.caption(f"Reading {url.rpartition('/')[2] or url}", help=url)


def _pick_study(names: list[str]) -> None:
    """The study named in the page's address, or else the one looked at before, or else the newest."""
    asked = st.query_params.get("study")
    if asked in names:
        st.session_state["study"] = asked
    elif asked:
        st.warning(f"There is no study {asked!r} in this database.")
    if st.session_state.get("study") not in names:
        st.session_state["study"] = names[-1]
    st.selectbox("Study", names, key="study", on_change=_write_address)
    _write_address()


def _write_address() -> None:
    st.query_params["study"] = st.session_state["study"]


def current_study() -> str | None:
    """Name of the study being looked at, or None when the database has none."""
    name = st.session_state.get("study")
    return str(name) if name else None


@dataclass
class _Seen:
    """A study's evaluations as far as they have been read; a running study only ever grows."""

    evaluations: list[Evaluation] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


@st.cache_resource(show_spinner=False, max_entries=64)
def _seen(url: str, name: str, created: str) -> _Seen:
    return _Seen()


@st.cache_resource(show_spinner=False, max_entries=64)
def _view(
    url: str,
    name: str,
    status: str,
    created: str,
    count: int,
    verified: Mapping[str, Mapping[str, float]],
    seconds: float,
    _study: StudyRecord,
    _space: SpaceRecord | None,
) -> StudyView:
    seen = _seen(url, name, created)
    with seen.lock:
        seen.evaluations = _repository(url).evaluations(name)
        known = corrected.of_study(_repository(url), _study, seen.evaluations) if seconds else None
        return queries.view(_study, seen.evaluations, _space, verified, known)


def views() -> list[StudyView]:
    """All studies as they are now; only evaluations not seen before are read."""
    counts, spaces = repository().num_evaluations(), queries.spaces(repository())
    return [_current(study, counts, spaces) for study in repository().studies()]


def current_view() -> StudyView:
    """The study being looked at. Raises NasError: the database has no study."""
    name = current_study()
    if name is None:
        raise NasError("this database has no studies yet; `nas demo` runs a first one in five minutes")
    return _current(repository().study(name), repository().num_evaluations(), queries.spaces(repository()))


def _current(study: StudyRecord, counts: dict[str, int], spaces: dict[str, SpaceRecord]) -> StudyView:
    url, count, space = st.session_state["url"], counts.get(study.name, 0), spaces.get(study.space_digest)
    verified = repository().verified(study.name)
    trust = repository().trust(study.supernet_digest) if study.supernet_digest else None
    seconds = trust.seconds if trust else 0.0  # grows with every network trained alone, and with it the correction
    return _view(url, study.name, study.status, study.created, count, verified, seconds, study, space)


def live(body: Callable[[], None]) -> None:
    """Show a part of a page, and show it again every few seconds while its study is running."""

    def guarded() -> None:
        try:
            body()
        except NasError as error:
            show_error(error)

    seconds = REFRESH_SECONDS if current_view().is_running else None
    st.fragment(guarded, run_every=seconds)()


def heading(title: str, shown: StudyView) -> None:
    """A page's title with the study's facts in one line below."""
    study = shown.study
    facts = [
        f"**{study.name}**",
        study.status,
        f"{len(shown.evaluations):,} evaluations",
        "minimise " + ", ".join(metric(name).phrase for name in study.objectives),
        *map(queries.limit_text, shown.limits),
    ]
    st.title(title, anchor=False)
    st.markdown(" · ".join(facts))


def show_figure(figure: go.Figure, key: str) -> None:
    """A figure to look at, without the toolbar."""
    st.plotly_chart(figure, key=key, width="stretch", theme=None, config={"displayModeBar": False})


def show_error(error: NasError) -> None:
    """What went wrong and how to put it right, in the one line the error carries."""
    st.error(str(error), icon=":material/error:")


def note(text: str) -> None:
    """A quiet line in place of something that is not there yet."""
    st.info(text, icon=":material/info:")
