"""`penstock model`: what is kept, and how the operator has another bundle, with or without an agent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.bundles.store import PACKAGE, Store, Wish, name_of
from agent.cli import main
from tests.bundles import sign, write_refusal_bundle


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Run `penstock model` on a state folder of its own; return the exit code and what it said."""

    def run_(*arguments: str) -> tuple[int, str, str]:
        where = ["--state-dir", str(tmp_path / "state"), "--trust", str(tmp_path / "trust.d")]
        code = main(["model", *arguments, *where])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run_


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "state" / "models", trust=tmp_path / "trust.d")


def signed(tmp_path: Path, release: int) -> Path:
    return sign(write_refusal_bundle(tmp_path / f"r{release}", release=release), tmp_path / "trust.d")


def test_a_staged_bundle_is_kept_and_wanted(run, store: Store, tmp_path: Path):
    code, _, said = run("stage", str(signed(tmp_path, 10**6)))

    (name,) = store.names()
    assert code == 0
    assert "release 1000000 is wanted" in said
    assert store.wish() == Wish(name)


def test_what_nobody_vouches_for_is_neither_kept_nor_wanted(run, store: Store, tmp_path: Path):
    code, _, said = run("stage", str(write_refusal_bundle(tmp_path / "unsigned", release=10**6)))

    assert code == 78
    assert "wanted a signature" in said
    assert (store.names(), store.wish()) == ([], None)


def test_going_back_wants_the_one_that_served_before(run, store: Store, tmp_path: Path):
    bundles = [store.stage(signed(tmp_path, release), newest=0) for release in (10**6, 10**6 + 1)]
    for bundle in bundles:
        store.activated(bundle, trial=False)

    code, _, _ = run("rollback")

    assert code == 0
    assert store.wish() == Wish(name_of(bundles[0]), rollback=True)


def test_going_back_to_what_is_not_kept_names_what_is(run):
    code, _, said = run("rollback", "other")

    assert code == 66
    assert "other is not kept here, wanted one of package" in said


def test_the_list_says_who_serves_and_what_is_wrong_with_the_others(run, store: Store, tmp_path: Path):
    bundles = [store.stage(signed(tmp_path, release), newest=0) for release in (10**6, 10**6 + 1)]
    for bundle in bundles:
        store.activated(bundle, trial=False)
    (bundles[0].path / "model.onnx").write_bytes(b"")

    _, text, _ = run("list")
    _, octets, _ = run("list", "--json")

    rows = {row["name"]: row for row in json.loads(octets)["bundles"]}
    assert list(rows) == [PACKAGE, *map(name_of, bundles)]
    assert rows[name_of(bundles[1])]["serves"]
    assert rows[name_of(bundles[0])]["before"]
    assert "sha256" in rows[name_of(bundles[0])]["trouble"]
    assert f"* {name_of(bundles[1])}  gru release 1000001" in text
