"""The front of a study in the plane of any two metrics; a click shows the network behind a point."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import app, blocks, charts, drawing, queries, shell, theme
from dashboard.queries import StudyView
from nas.records import Evaluation
from nas.units import metric

_NOTHING = "–"


def show_front() -> None:
    shown = shell.current_view()
    shell.heading("Front", shown)
    reason = queries.why_empty(shown)
    if reason:
        shell.note(reason)
        return
    if len(shown.metrics) < 2:
        _show_single(shown)
        return
    chart, details = st.columns([3, 2], gap="large")
    with chart:
        x, y, log_x, log_y = _pick_axes(shown)
        listed = _restore_choice(shown, (len(shown.table), x, y, log_x, log_y))
        table, objectives = queries.plane(shown, x, y)
        figure = charts.front_figure(table, x, y, objectives, shown.limits, log_x=log_x, log_y=log_y, listed=listed)
        st.plotly_chart(
            figure,
            key=_key(shown, "chart"),
            width="stretch",
            theme=None,
            on_select=lambda: _take_selection(shown),
            selection_mode=("points", "box", "lasso"),
            config={"displaylogo": False, "modeBarButtonsToRemove": ["autoScale2d", "zoomIn2d", "zoomOut2d", "pan2d"]},
        )
        st.caption("Click a point for its network; hold Shift and click another to compare the two.")
        if shown.corrected:
            st.caption(shown.corrected.sentence)
    with details:
        network, compared = _pick_networks(shown)
        _show_metrics(shown, network, compared)
        _link_targets(shown)
        st.caption(f"Export {network.arch.digest[:8]}")
        st.code(
            queries.export_command(shown.study.name, network.arch.digest, shell.repository().url),
            language="bash",
            wrap_lines=True,
        )
    _show_networks(shown, network, compared)


def _key(shown: StudyView, name: str) -> str:
    """State is kept per study: a network of one study is none of another."""
    return f"{shown.study.name} {name}"


def _pick_axes(shown: StudyView) -> tuple[str, str, bool, bool]:
    """Two metrics, the second and first objective to begin with, and whether each axis is logarithmic.

    The first is to begin with, where the front would stick to the other axis otherwise.
    """
    names = shown.metrics
    first = names.index(shown.study.objectives[0]) if shown.study.objectives[0] in names else 0
    others = [name for name in shown.study.objectives[1:] if name in names]
    second = names.index(others[0]) if others else (1 if first == 0 else 0)
    pick_x, pick_y, toggles = st.columns([2, 2, 1.4])
    x = pick_x.selectbox("Across", names, second, format_func=_axis_title, key=_key(shown, "x"))
    y = pick_y.selectbox("Up", names, first, format_func=_axis_title, key=_key(shown, "y"))
    wide = ["x"] if queries.spans_widely(shown.front, x) else []
    toggled = toggles.pills(
        "Logarithmic", ("x", "y"), selection_mode="multi", default=wide, key=_key(shown, f"log {x} {y}")
    )
    logs = toggled or []
    return x, y, "x" in logs, "y" in logs


def _axis_title(name: str) -> str:
    return metric(name).axis


def _restore_choice(shown: StudyView, drawn: tuple[object, ...]) -> Sequence[str]:
    """Digests to mark as chosen when the chart is drawn: from the page's address or the lists, not from clicks.

    Clicks mark themselves; a figure that followed them would be a new one, and lose the reader's zoom. So what is
    marked changes only with `drawn`, all else that the figure is made of.
    """
    state = st.session_state
    if _key(shown, "network") not in state:
        asked = shown.evaluation(st.query_params.get("architecture", ""))
        first = asked.arch.digest if asked else next(iter(shown.front["_digest"]), None)
        if first is not None:
            state[_key(shown, "network")] = first
            _mark_chosen(shown)
    elif state.get(_key(shown, "drawn")) != drawn:
        _mark_chosen(shown)
    state[_key(shown, "drawn")] = drawn
    listed: Sequence[str] = state.get(_key(shown, "listed"), ())
    return listed


def _take_selection(shown: StudyView) -> None:
    """The first two points chosen in the chart become the network shown and the one compared."""
    event: Mapping[str, Any] = st.session_state[_key(shown, "chart")]
    digests = queries.selected_digests(event)
    if digests:
        st.session_state[_key(shown, "network")] = digests[0]
        st.session_state[_key(shown, "compared")] = digests[1] if len(digests) > 1 else _NOTHING


def _mark_chosen(shown: StudyView) -> None:
    """Let the chart, when it is drawn next, show as chosen what the two lists say."""
    picked = [st.session_state.get(_key(shown, name), _NOTHING) for name in ("network", "compared")]
    st.session_state[_key(shown, "listed")] = tuple(digest for digest in picked if digest != _NOTHING)


def _pick_networks(shown: StudyView) -> tuple[Evaluation, Evaluation | None]:
    """The network to show and one to compare with, from the front, what measuring took off it and what was clicked."""
    by_digest = {digest: one for digest, one in shown.by_digest.items() if one.error is None}
    options = [str(digest) for rows in (shown.front, shown.refuted) for digest in rows["_digest"]]
    options = options or list(by_digest)[:1]
    for name in ("network", "compared"):
        digest = st.session_state.get(_key(shown, name))
        if digest in by_digest and digest not in options:
            options.append(digest)
        elif digest not in by_digest:
            st.session_state.pop(_key(shown, name), None)

    def label(digest: str) -> str:
        return _NOTHING if digest == _NOTHING else _label(shown, by_digest[digest])

    network = st.selectbox(
        "Network", options, key=_key(shown, "network"), format_func=label, on_change=_mark_chosen, args=(shown,)
    )
    compared = st.selectbox(
        "Compare with",
        [_NOTHING, *options],
        key=_key(shown, "compared"),
        format_func=label,
        on_change=_mark_chosen,
        args=(shown,),
    )
    st.query_params["architecture"] = network[:8]
    other = by_digest[compared] if compared not in (_NOTHING, network) else None
    return by_digest[network], other


def _label(shown: StudyView, one: Evaluation) -> str:
    values = [metric(name).text(one.metrics[name]) for name in shown.study.objectives if name in one.metrics]
    broken = queries.broken_limits(one.metrics, shown.limits) or shown.broken_as_measured(one.arch.digest)
    return "  ·  ".join([one.arch.digest[:8], *values, *(["breaks a limit"] if broken else [])])


def _show_metrics(shown: StudyView, network: Evaluation, compared: Evaluation | None) -> None:
    """Metrics with their units beside what the network itself showed, or beside another network's."""
    verified = shown.verified.get(network.arch.digest, {})
    rows = []
    for name in dict.fromkeys([*shown.metrics, *verified]):
        named, value = metric(name), network.metrics.get(name, math.nan)
        row = {"metric": named.axis + ("  ↓" if name in shown.study.objectives else "")}
        row[network.arch.digest[:8]] = named.text(value)
        if compared:
            theirs = compared.metrics.get(name, math.nan)
            row[compared.arch.digest[:8]] = named.text(theirs)
            row["change"] = _change(value, theirs)
        elif verified:
            row["verified"] = named.text(verified.get(name, math.nan))
        rows.append(row)
    st.table(pd.DataFrame(rows).set_index("metric"))
    if verified and not compared:
        st.caption("Verified: what the network taken out of the supernet showed by itself.")
    place = "on the front" if network.arch.digest in set(shown.front["_digest"]) else "not on the front"
    st.caption(f"↓ minimised. {network.arch.digest[:8]} is {place}{_broken(shown, network)}.")


def _link_targets(shown: StudyView) -> None:
    """Where it is said how far latencies can be trusted."""
    known = {target.name for target in shell.repository().targets()}
    devices = [metric(name).device for name in dict.fromkeys([*shown.metrics, *(one.metric for one in shown.limits)])]
    for name in dict.fromkeys(device for device in devices if device in known):
        label, address = f"How far latencies on {name} can be trusted", {"study": shown.study.name, "target": name}
        st.page_link("pages/targets.py", label=label, icon=":material/memory:", query_params=address)


def _broken(shown: StudyView, network: Evaluation) -> str:
    """The limits that a network breaks, as evaluated or, where it kept them then, as measured."""
    evaluated = queries.broken_limits(network.metrics, shown.limits)
    broken = evaluated or shown.broken_as_measured(network.arch.digest)
    limits = " and ".join(queries.limit_text(limit) for limit in broken)
    return f"; {'it' if evaluated else 'as measured it'} breaks {limits}" if broken else ""


def _change(before: float, after: float) -> str:
    """Relative change in per cent, where there is one."""
    is_known = math.isfinite(before) and math.isfinite(after) and before != 0
    return f"{(after / before - 1) * 100:+.1f} %".replace("-", "−") if is_known else _NOTHING


def _show_networks(shown: StudyView, network: Evaluation, compared: Evaluation | None) -> None:
    """Drawings of one network or two, and the table of values."""
    declaration = shown.space.declaration if shown.space else {}
    _show_drawing(network, compared, declaration, theme.ACCENT)
    if compared:
        _show_drawing(compared, network, declaration, theme.OTHER)
        _show_difference(network, compared)
    with st.expander(f"All values of {network.arch.digest[:8]}"):
        st.dataframe(blocks.values_table(network.arch), hide_index=True, width="stretch")
        st.code(network.arch.json(), language="json", wrap_lines=True)


def _show_drawing(network: Evaluation, other: Evaluation | None, declaration: Mapping[str, Any], color: str) -> None:
    theirs = blocks.settings(other.arch) if other else None
    common = [
        f":orange[**{name} {value}**]" if theirs and theirs.get(name) != value else f"{name} {value}"
        for name, value in blocks.settings(network.arch).items()
    ]
    st.subheader(f"Network {network.arch.digest[:8]}", anchor=False)
    if common:
        st.caption(" · ".join(common))
    figure = drawing.network_figure(network.arch, other.arch if other else None, declaration, color)
    shell.show_figure(figure, f"drawing {network.arch.digest}")


def _show_difference(network: Evaluation, compared: Evaluation) -> None:
    pairs = network.arch.diff(compared.arch)
    title = f"{len(pairs)} values differ" if len(pairs) != 1 else "1 value differs"
    table = pd.DataFrame(
        {
            "value": list(pairs),
            network.arch.digest[:8]: [_written(mine) for mine, _ in pairs.values()],
            compared.arch.digest[:8]: [_written(theirs) for _, theirs in pairs.values()],
        }
    )
    st.expander(title).dataframe(table, hide_index=True, width="stretch")


def _written(value: Any) -> str:
    return "absent" if value is None else str(value)


def _show_single(shown: StudyView) -> None:
    """With one metric there is no plane: the best networks as a list."""
    name = shown.metrics[0]
    best = shown.table[shown.table["_feasible"]].sort_values(name).head(20)
    st.caption(f"This study measures {metric(name).axis} alone, so there is no front; these are its best networks.")
    st.dataframe(
        pd.DataFrame({"network": best["_digest"].str[:8], metric(name).axis: best[name].map(metric(name).text)}),
        hide_index=True,
        width="stretch",
    )


def page() -> None:
    shell.live(show_front)


if __name__ == "__main__":
    app.run(page)
