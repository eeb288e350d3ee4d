"""One seeded database for all tests of the dashboard: they only read it."""

import pytest

from dashboard import queries
from dashboard.queries import StudyView
from nas.results import front as fronts
from nas.storage import Repository
from tests.dashboard.seeding import seed_database


@pytest.fixture(scope="session")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    address = f"sqlite:///{tmp_path_factory.mktemp('dashboard') / 'synthetic.db'}"
    seed_database(address, 120)
    return address


@pytest.fixture(scope="session")
def shown(url: str) -> StudyView:
    """The finished study: two objectives, two limits, a few failures."""
    with Repository(url, read_only=True) as repository:
        study = repository.study("digits-cnn")
        space, verified = queries.spaces(repository)[study.space_digest], repository.verified(study.name)
        known = fronts.read(repository, study.name).known
        columns, archs = repository.columns(study.name), repository.architectures
        known_archs = archs(columns.digests)
        return queries.view(study, columns, lambda digests: known_archs, space, verified, known)
