"""The benchmark of Tune trials trains the same on every way, and its figures are those of rounds."""

import numpy as np
import pytest

from benchmarks import trials


def test_figures_are_those_of_rounds() -> None:
    text = trials.table({"calls of 2 actors": [2.0, 4.0, 3.0], "Tune": [4.0, 12.0, 9.0]})
    assert "| Tune | 9.0 (4.0 to 12.0) | 3.0 | +0.60 | 1.11 |" in text


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning:ray", "ignore::DeprecationWarning")
def test_trials_find_what_the_trainings_find_and_leave_no_cluster() -> None:
    ray = pytest.importorskip("ray", reason="ray is an extra")
    archs = trials.Perceptrons().sample_many(2, np.random.default_rng(1), distinct=True)
    cluster = trials.LocalCluster(trials.import_ray(), 2)
    try:
        found = trials.by_tune(archs, reuse_actors=True)
    finally:
        cluster.close()
    assert found == pytest.approx([trials.training(arch)["error"] for arch in archs]) and found[0] != found[1]
    assert not ray.is_initialized()
