"""Functions that all pages share: the open database, the selected study, headings, notes and live refresh."""

from collections.abc import Callable, Mapping, Sequence

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from dashboard import address, chart, progress, queries, text, theme
from dashboard.progress import Unreadable
from dashboard.queries import StudyView
from nas.errors import NasError
from nas.objectives.units import metric
from nas.records import SpaceRecord, StudyRecord
from nas.results import front as fronts
from nas.storage import Repository

REFRESH_SECONDS = 3
LARGE, LARGE_SECONDS = 1_000, 15
"""Evaluations from which a page costs a search more than it shows anew, and the seconds between its refreshes then."""
STYLE = """<style>
[data-testid="stMainBlockContainer"] { padding: 2.4rem 3rem 3rem; max-width: 1560px; }
[data-testid="stMetricValue"] { font-size: 1.45rem; }
[data-testid="stMetricLabel"] { opacity: .75; }
[data-testid="stSidebarHeader"] { height: 2.6rem; }
[data-testid="stHeader"] { background: transparent; }
[data-testid="stTable"] { overflow-x: auto; }
[data-testid="stPageLink"] p { white-space: normal; }
[data-testid="stTable"] td, h1, [data-testid="stMarkdownContainer"] { overflow-wrap: anywhere; }
@media (min-width: 700px) { [data-testid="stSidebar"] { width: 248px !important; min-width: 248px; } }
@media (max-width: 700px) {
  [data-testid="stMainBlockContainer"] { padding: 3rem 1rem 2rem; }
  [class*="st-key-drawing"], .st-key-derived, .st-key-best, .st-key-steps, .st-key-parallel { overflow-x: auto; }
  [class*="st-key-drawing"] > div, .st-key-derived > div { min-width: 900px; }
  .st-key-best > div, .st-key-steps > div, .st-key-parallel > div { min-width: 680px; }
  .st-key-machines table { min-width: 980px; }
}
</style>"""
"""Reduces empty space, aligns numbers, and lets wide figures scroll on narrow screens; the theme sets the rest."""


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


def show_sidebar(whole: Sequence[st.Page], chosen: Sequence[st.Page], page: st.Page) -> None:
    """Show the pages of the whole database, and below them the selected study with its pages."""
    names = [study.name for study in repository().studies()]
    with st.sidebar:
        for one in whole:
            st.page_link(one)
        if names:
            _pick_study(names, page)
            name = current_study()
            for one in chosen if name else ():
                st.page_link(one, query_params={"study": address.key(str(name))})
        url = repository().url
        st.caption(f"Reading {text.markdown(url.rpartition('/')[2] or url)}", help=text.markdown(url, 400))
        chart.begin_loading()


def _pick_study(names: list[str], page: st.Page) -> None:
    """Select the study in the page's URL, or else the one selected before, or else the newest."""
    asked, state = st.query_params.get("study"), st.session_state
    if asked:
        state["study"] = address.named(asked, names)
    elif state.get("study") not in names:
        state["study"] = names[-1]
    st.selectbox(
        "Study",
        names,
        index=0 if state["study"] else None,
        key="study",
        placeholder="Choose a study",
        format_func=lambda name: text.shortened(name, 60),
        on_change=_change_study,
    )
    name = current_study()
    if name:
        address.enter(page.url_path, name)


def _change_study() -> None:
    """Clear the selection, which does not apply to another study."""
    st.query_params.clear()
    name = current_study()
    if name:
        st.query_params["study"] = address.key(name)
        st.session_state["page"] = None  # restores this study's earlier selection


def current_study() -> str | None:
    """Return the name of the selected study; None if the requested one does not exist."""
    name = st.session_state.get("study")
    return str(name) if name else None


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
    found = fronts.read(_repository(url), name)
    return queries.view(_study, found.inherited, _repository(url).architectures, _space, verified, found.known)


def views() -> list[StudyView | Unreadable]:
    """Return all studies; unchanged ones come from a cache, and invalid ones are `Unreadable`."""
    counts, spaces = repository().num_evaluations(), queries.spaces(repository())
    found: list[StudyView | Unreadable] = []
    for study in repository().studies():
        try:
            found.append(_current(study, counts, spaces))
        except NasError as error:
            count = counts.get(study.name, 0)
            found.append(Unreadable(study.name, study.status, study.created, str(error), count))
    return found


def current_view() -> StudyView:
    """Return the selected study; raise NasError if there is none."""
    name = current_study()
    if name is None:
        asked = text.shortened(st.query_params.get("study", ""))
        names = [study.name for study in repository().studies()]
        if not names:
            raise NasError("this database has no studies yet; `nas demo` runs a first one in five minutes")
        known = ", ".join(repr(text.shortened(one, 40)) for one in names[-5:])
        more = f", and {len(names) - 5} more" if len(names) > 5 else ""
        raise NasError(f"there is no study {asked!r} in this database; choose one at the left: {known}{more}")
    return _current(repository().study(name), repository().num_evaluations(), queries.spaces(repository()))


def _current(study: StudyRecord, counts: dict[str, int], spaces: dict[str, SpaceRecord]) -> StudyView:
    url, count, space = st.session_state["url"], counts.get(study.name, 0), spaces.get(study.space_digest)
    verified = repository().verified(study.name)
    trust = repository().trust(study.supernet_digest) if study.supernet_digest else None
    seconds = trust.seconds if trust else 0.0  # grows with every network trained alone, and with it the correction
    return _view(url, study.name, study.status, study.created, count, verified, seconds, study, space)


def pace(shown: StudyView) -> float | None:
    """Return the seconds between refreshes of a study's page; None if the study does not change."""
    if not shown.is_running:
        return None
    return REFRESH_SECONDS if len(shown.table) < LARGE else LARGE_SECONDS


def live(title: str, body: Callable[[StudyView], None]) -> None:
    """Show a page of the selected study, and refresh it while the study is running."""
    try:
        seconds = pace(current_view())
    except NasError as error:
        st.title(title, anchor=False)
        show_error(error)
        return

    def whole() -> None:
        shown = current_view()
        if pace(shown) != seconds:
            st.rerun()  # only a run of the whole page changes how often a part refreshes
        heading(title, shown)
        body(shown)

    part(whole, seconds)


def part(body: Callable[[], None], seconds: float | None) -> None:
    """Show a part of a page that refreshes itself every `seconds`; errors appear as one line."""

    def guarded() -> None:
        try:
            body()
        except NasError as error:
            show_error(error)

    st.fragment(guarded, run_every=seconds)()


def heading(title: str, shown: StudyView) -> None:
    """Show a page's title, and the study's facts in one line below."""
    study = shown.study
    aims = ", ".join(text.markdown(metric(name).phrase) for name in study.objectives)
    facts = [
        f"**{text.markdown(study.name)}**",
        text.markdown(study.status),
        f"{len(shown.table):,} evaluations",
        f"minimise {aims}",
        *(text.markdown(queries.limit_text(limit)) for limit in shown.limits),
    ]
    st.title(title, anchor=False)
    st.markdown(" · ".join(facts))
    left = progress.seconds_left(shown)
    done = progress.share_done(shown)
    if shown.is_running and done is not None:
        st.progress(done, f"{done:.0%} of {progress.asked(shown):,} evaluations{_left(left)}")


def _left(seconds: float | None) -> str:
    return "" if seconds is None else f", about {progress.duration(seconds)} left"


def is_dark() -> bool:
    return st.context.theme.type == "dark"


def show_figure(
    figure: go.Figure,
    key: str,
    alt: str = "",
    toolbar: Mapping[str, object] | None = None,
    on_select: Callable[[Sequence[int]], None] | None = None,
) -> None:
    """Show a figure in the user's light or dark theme.

    Args:
        alt: description for screen readers.
        toolbar: Plotly's settings of the toolbar; None hides it.
        on_select: see `chart.show`.
    """
    drawn = figure.to_json(validate=False)
    config = {"displayModeBar": False} if toolbar is None else toolbar
    chart.show(theme.darkened(drawn) if is_dark() else drawn, key, alt or key, config, on_select)


def show_facts(facts: Mapping[str, str]) -> None:
    """Show a table of names and values as plain text."""
    rows = {text.markdown(name): text.markdown(value, 600) for name, value in facts.items()}
    st.table(pd.DataFrame({"": list(rows), "value": list(rows.values())}).set_index(""), hide_header=True)


def show_error(error: NasError) -> None:
    """Show the one line of an error, with its remedy."""
    st.error(text.markdown(error, 600), icon=":material/error:")


def note(said: str) -> None:
    """Show an unobtrusive line in place of missing content."""
    st.info(said, icon=":material/info:")
