"""What all pages share: the open database, the study being looked at, headings, notes and live refresh."""

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
"""Less empty space, calmer numbers, and on narrow screens wide figures that scroll; all else is the theme's."""


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
    """The pages of the whole database, and below them the study being looked at with its own."""
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
    """The study named in the page's address, or else the one looked at before, or else the newest."""
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
    """What was looked at of one study is nothing of another."""
    st.query_params.clear()
    name = current_study()
    if name:
        st.query_params["study"] = address.key(name)
        st.session_state["page"] = None  # what was looked at of this one earlier comes back


def current_study() -> str | None:
    """Name of the study being looked at, or None when there is none of the name asked for."""
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
    """All studies as they are now; what has not changed is not read again. One that cannot be read harms none."""
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
    """The study being looked at. Raises NasError: there is none."""
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
    """Show a page of the current study, and refresh it while the study is running."""
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
    """A part of a page that is shown again by itself, and says in one line what it cannot show."""

    def guarded() -> None:
        try:
            body()
        except NasError as error:
            show_error(error)

    st.fragment(guarded, run_every=seconds)()


def heading(title: str, shown: StudyView) -> None:
    """A page's title with the study's facts in one line below."""
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
    """A figure as it looks on the reader's ground; without a toolbar it is only looked at.

    Args:
        alt: what it shows, for those who do not see it.
        toolbar: Plotly's settings of it.
        on_select: see `chart.show`.
    """
    drawn = figure.to_json(validate=False)
    config = {"displayModeBar": False} if toolbar is None else toolbar
    chart.show(theme.darkened(drawn) if is_dark() else drawn, key, alt or key, config, on_select)


def show_facts(facts: Mapping[str, str]) -> None:
    """A table of names and values, all of it plain text."""
    rows = {text.markdown(name): text.markdown(value, 600) for name, value in facts.items()}
    st.table(pd.DataFrame({"": list(rows), "value": list(rows.values())}).set_index(""), hide_header=True)


def show_error(error: NasError) -> None:
    """What went wrong and how to put it right, in the one line the error carries."""
    st.error(text.markdown(error, 600), icon=":material/error:")


def note(said: str) -> None:
    """A quiet line in place of something that is not there yet."""
    st.info(said, icon=":material/info:")
