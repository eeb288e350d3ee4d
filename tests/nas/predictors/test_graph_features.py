"""Features of graphs: what is dead does not count."""

import numpy as np

from nas.predictors import Additive
from nas.predictors.features import graph_features, together
from search_spaces import NASBench201Space, Space, choice
from tests.contracts.predictor import Stages

CELLS = NASBench201Space()


class Width(Space):
    """A choice that no node of the graph shows."""

    width = choice(8, 16)

    def graph(self, arch):  # type: ignore[no-untyped-def]
        return CELLS.graph(CELLS.largest())


def test_operations_on_no_path_are_as_none() -> None:
    """The edge 0-1 leads nowhere when 1-2 and 1-3 are gone."""
    dead, none, live = (
        CELLS.architecture({"op": ops})
        for ops in (
            ["nor_conv_3x3", "none", "none", "nor_conv_1x1", "none", "none"],
            ["none", "none", "none", "nor_conv_1x1", "none", "none"],
            ["nor_conv_3x3", "none", "none", "nor_conv_1x1", "skip_connect", "none"],
        )
    )
    found = graph_features(CELLS)([dead, none, live])
    counts = found[:, 30:35]  # of the five operations, after a column an option of the six edges
    np.testing.assert_array_equal(counts, [[0, 0, 0, 1, 0], [0, 0, 0, 1, 0], [0, 1, 0, 1, 1]])
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[:, -3:], [[3, 2, 2], [3, 2, 2], [6, 6, 4]])  # parts, edges, longest path


def test_nothing_flows() -> None:
    found = graph_features(CELLS)([CELLS.smallest()])
    assert found[0, :35].sum() == 0


def test_codes_and_architectures_and_repeats_agree() -> None:
    archs = CELLS.sample_many(20, np.random.default_rng(0))
    columns = graph_features(CELLS)
    by_object = columns(archs)
    np.testing.assert_array_equal(columns(CELLS.codes(archs)), by_object)
    np.testing.assert_array_equal(columns(archs[::-1]), by_object[::-1])


def test_what_no_node_shows_is_alive() -> None:
    found = graph_features(Width())([Width().smallest(), Width().largest()])
    np.testing.assert_array_equal(found[:, :2], [[1, 0], [0, 1]])


def test_a_chain_counts_what_its_blocks_take() -> None:
    arch = Stages().architecture(
        {"resolution": 128, "width": 16, "depth": 3, "kernel": [3, 7, 7], "op": ["conv", "conv", "shuffle"]}
    )
    np.testing.assert_array_equal(graph_features(Stages())([arch]), [[1, 0, 2, 2, 0, 1]])


def test_they_tell_a_table_what_is_dead() -> None:
    """Latency counts what is alive: with the features a table finds it, without it cannot."""
    archs = CELLS.sample_many(300, np.random.default_rng(0), distinct=True)
    columns = graph_features(CELLS)
    alive = columns(archs)[:, 32:35].sum(axis=1) + 1
    errors = []
    for features in (None, together(columns, columns)):
        predictor = Additive(CELLS, features)
        predictor.fit(archs[:150], alive[:150])
        errors.append(np.abs(predictor.predict(archs[150:])[0] - alive[150:]).mean())
    assert errors[1] < 0.2 * errors[0]
