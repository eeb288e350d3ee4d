"""The page of the trust report: whether inherited metrics rank networks as stand-alone training does."""

import streamlit as st

from dashboard import queries, shell, text
from dashboard.figures import training
from dashboard.figures import trust as figures
from dashboard.queries import StudyView
from nas.objectives.units import metric
from nas.records import Trust
from nas.results.trust import facts

_NO_SUPERNET = (
    "This study has no supernet: every network was judged by its own weights, so there are no ranks to doubt."
)
_NO_TRUST = """No trust report is stored for this study's supernet. Until there is one, take the order of networks
with care: a run file with `trust` set lets `nas search` train a few of them on their own and compare."""


def show_trust(shown: StudyView) -> None:
    digest = shown.study.supernet_digest
    if digest is None:
        shell.note(_NO_SUPERNET)
        return
    trust = shell.repository().trust(digest)
    if trust is None:
        shell.note(_NO_TRUST)
        return
    _show_verdict(trust)
    left, right = st.columns([5, 6], gap="large")
    with left:
        st.subheader("Agreement with stand-alone training", anchor=False)
        shell.show_figure(figures.agreement_figure(trust), "agreement")
        st.caption("Points with 95 % intervals. Noise keeps even a second training from the same order.")
        _show_networks(trust)
    with right:
        st.subheader("In figures", anchor=False)
        _show_facts(trust)
        _show_curves(trust, digest)


def _show_verdict(trust: Trust) -> None:
    if trust.banner:
        st.warning(f"**{text.markdown(trust.banner, 600)}**", icon=":material/flag:")
    if trust.level == "reliable":
        st.success(text.markdown(trust.verdict, 600), icon=":material/check_circle:")
    elif trust.level == "unknown":
        st.info(text.markdown(trust.verdict, 600), icon=":material/help:")
    else:
        st.warning(text.markdown(trust.verdict, 600), icon=":material/warning:")


def _show_facts(trust: Trust) -> None:
    shell.show_facts({fact.name: fact.text for fact in facts(trust)})


def _show_networks(trust: Trust) -> None:
    st.subheader("Inherited against stand-alone", anchor=False)
    rows = queries.trust_table(trust)
    if not len(rows):
        shell.note("This report holds no values of single networks.")
        return
    shell.show_figure(figures.ranks_figure(rows, trust.metric, trust.noise), "ranks")
    if trust.noise is not None:
        st.caption("Bars: the standard deviation of one stand-alone training.")


def _show_curves(trust: Trust, digest: str) -> None:
    """Show the curves of the smallest and largest subnets; if they still fall, or cross, the ranking is unreliable."""
    curves = queries.curve_table(shell.repository().curve(digest))
    if not (curves["metric"] == trust.metric).any():
        return
    st.subheader(f"{metric(trust.metric).title.capitalize()} with inherited weights", anchor=False)
    shell.show_figure(training.curves_figure(curves, trust.metric), "curves")
    st.caption("While the supernet was trained; the training page has more.")


def page() -> None:
    shell.live("Trust", show_trust)


if __name__ == "__main__":
    page()
