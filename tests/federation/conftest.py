"""Both stores a ledger may stand in, for the tests that hold of either."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.federation.homes import STORE
from tests.federation.postgres import Cluster, NoPostgres

NewFolder = Callable[[str], Path]


def _cluster(*settings: str) -> Cluster:
    pytest.importorskip("psycopg", reason="no psycopg: pip install 'penstock[postgres]'")
    try:
        return Cluster(*settings)
    except (NoPostgres, KeyError) as exc:  # KeyError: root, and no account to run a server as
        pytest.skip(str(exc))


def _running() -> Iterator[Cluster]:
    made = _cluster()
    try:
        made.start()
        yield made
    finally:
        made.remove()


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Give a PostgreSQL server, running; not to be stopped by a test."""
    yield from _running()


@pytest.fixture
def own_cluster() -> Iterator[Cluster]:
    """Give a PostgreSQL server, running, that one test may do anything to."""
    yield from _running()


@pytest.fixture(params=["sqlite", "postgresql"])
def new_folder(request: pytest.FixtureRequest, tmp_path: Path) -> NewFolder:
    """Give what makes folders of aggregators, by name, each with a store of its own."""
    cluster = request.getfixturevalue("cluster") if request.param == "postgresql" else None

    def make(name: str) -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        if cluster is not None:
            (folder / STORE).write_text(cluster.new_store())
        return folder

    return make


@pytest.fixture
def folder(new_folder: NewFolder) -> Path:
    """Give an aggregator's folder."""
    return new_folder("")
