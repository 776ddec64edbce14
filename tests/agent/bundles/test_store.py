"""Bundles on disk: who gets in, what a damaged one costs, and what is remembered over restarts."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from agent.bundles.store import KEPT, MAX_TRIAL_STARTS, PACKAGE, Store, Wish, name_of
from contracts.bundle import Bundle, default_bundle
from contracts.errors import BundleCorrupt, BundleError, BundleOutdated, BundleUntrusted
from tests.bundles import sign, write_refusal_bundle

BIT_FLIPS = 60  # of each file; the long form, over every file many times, stands with the other faults


@pytest.fixture
def trust(tmp_path: Path) -> Path:
    return tmp_path / "trust.d"


@pytest.fixture
def store(tmp_path: Path, trust: Path) -> Store:
    return Store(tmp_path / "state" / "models", trust=trust)


def signed(tmp_path: Path, trust: Path, release: int) -> Path:
    return sign(write_refusal_bundle(tmp_path / f"r{release}", release=release), trust)


def again(store: Store) -> Store:
    """Return the store as the next start of the agent finds it."""
    return Store(store.path, trust=store.trust)


def serving(store: Store, tmp_path: Path, *releases: int) -> list[Bundle]:
    """Let these releases serve one after the other."""
    bundles = []
    for release in releases:
        bundles.append(store.stage(signed(tmp_path, store.trust, release), newest=0))
        store.activated(bundles[-1], trial=False)
    return bundles


def test_a_bundle_is_kept_as_a_copy_that_nobody_changes(store: Store, tmp_path: Path, trust: Path):
    source = signed(tmp_path, trust, 10**6)
    bundle = store.stage(source, newest=0)
    shutil.rmtree(source)
    store.activated(bundle, trial=False)

    assert bundle.signer == source.name
    assert again(store).last_good().manifest.release == 10**6


def test_what_nobody_vouches_for_is_refused(store: Store, tmp_path: Path, trust: Path):
    with pytest.raises(BundleUntrusted):
        store.stage(write_refusal_bundle(tmp_path / "unsigned"), newest=0)

    assert store.names() == []


def test_a_key_taken_away_takes_its_bundles_away(store: Store, tmp_path: Path, trust: Path):
    (bundle,) = serving(store, tmp_path, 10**6)
    (trust / f"{bundle.signer}.pub").unlink()

    assert again(store).last_good().manifest_sha256 == default_bundle().manifest_sha256


def test_an_older_release_is_refused_unless_rolled_back(store: Store, tmp_path: Path, trust: Path):
    older = signed(tmp_path, trust, 5)

    with pytest.raises(BundleOutdated, match="release 5, wanted 6"):
        store.stage(older, newest=6)
    assert store.stage(older, newest=6, rollback=True).manifest.release == 5


def test_the_packages_bundle_needs_no_copy(store: Store):
    bundle = store.stage(default_bundle().path, newest=0)

    assert (name_of(bundle), store.names()) == (PACKAGE, [])


def test_with_no_memory_the_package_serves(store: Store):
    assert store.last_good().manifest_sha256 == default_bundle().manifest_sha256


def test_a_newer_package_takes_over_unless_somebody_went_back(store: Store, tmp_path: Path, trust: Path):
    old = store.stage(signed(tmp_path, trust, 1), newest=0)
    if default_bundle().manifest.release <= 1:
        pytest.skip("the package's bundle is the first release")
    store.activated(old, trial=False)
    by_itself = again(store).last_good()
    store.activated(old, trial=False, rollback=True)
    on_purpose = again(store).last_good()

    assert by_itself.manifest_sha256 == default_bundle().manifest_sha256
    assert on_purpose.manifest.release == 1


def test_whatever_bit_flips_the_one_before_serves(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    before, spoilt = serving(store, tmp_path, 10**6, 10**6 + 1)
    chance = random.Random(20)
    for file in sorted(spoilt.path.iterdir()):
        whole = file.read_bytes()
        for _ in range(BIT_FLIPS):
            octets = bytearray(whole)
            octets[chance.randrange(len(octets))] ^= 1 << chance.randrange(8)
            file.write_bytes(octets)
            with pytest.raises(BundleError):
                store.load(name_of(spoilt))
            assert again(store).last_good().manifest_sha256 == before.manifest_sha256
        file.write_bytes(whole)
    capsys.readouterr()

    assert again(store).last_good().manifest_sha256 == spoilt.manifest_sha256


def test_wherever_a_file_is_cut_the_one_before_serves(store: Store, tmp_path: Path):
    before, spoilt = serving(store, tmp_path, 10**6, 10**6 + 1)
    for file in sorted(spoilt.path.iterdir()):
        whole = file.read_bytes()
        for kept in (0, 1, len(whole) // 2, len(whole) - 1):
            file.write_bytes(whole[:kept])
            assert again(store).last_good().manifest_sha256 == before.manifest_sha256
        file.write_bytes(whole)


def test_where_both_are_spoilt_the_package_serves(store: Store, tmp_path: Path):
    for bundle in serving(store, tmp_path, 10**6, 10**6 + 1):
        (bundle.path / "model.onnx").write_bytes(b"")

    assert again(store).last_good().manifest_sha256 == default_bundle().manifest_sha256


def test_a_spoilt_copy_is_made_anew(store: Store, tmp_path: Path, trust: Path):
    source = signed(tmp_path, trust, 10**6)
    copy = store.stage(source, newest=0)
    (copy.path / "model.onnx").write_bytes(b"")

    assert store.stage(source, newest=0).path == copy.path
    assert store.load(name_of(copy)).manifest.release == 10**6


def test_one_that_ends_the_agent_again_and_again_is_taken_back(store: Store, tmp_path: Path):
    before, deadly = serving(store, tmp_path, 10**6, 10**6 + 1)
    store.activated(deadly, trial=True)
    served = [again(store).last_good().manifest.release for _ in range(MAX_TRIAL_STARTS + 1)]

    assert served == [deadly.manifest.release] * MAX_TRIAL_STARTS + [before.manifest.release]
    assert name_of(deadly) in again(store).standing.refused


def test_one_that_has_passed_its_trial_may_be_started_as_often_as_one_likes(store: Store, tmp_path: Path):
    (bundle,) = serving(store, tmp_path, 10**6)
    store.activated(bundle, trial=True)
    store.confirmed()

    assert {again(store).last_good().manifest.release for _ in range(2 * MAX_TRIAL_STARTS)} == {10**6}


def test_the_store_is_bounded(store: Store, tmp_path: Path):
    bundles = serving(store, tmp_path, *range(10**6, 10**6 + KEPT + 3))

    assert len(store.names()) == KEPT
    assert {name_of(bundles[-1]), name_of(bundles[-2])} <= set(store.names())


def test_a_wish_is_granted_once(store: Store, tmp_path: Path):
    (bundle,) = serving(store, tmp_path, 10**6)
    store.want(Wish(name_of(bundle), rollback=True))

    agent = again(store)
    assert agent.wish() == Wish(name_of(bundle), rollback=True)
    assert agent.wish() is None
    agent.activated(bundle, trial=False, rollback=True)
    assert again(store).wish() is None


def test_a_wish_that_came_to_no_end_is_taken_up_by_the_next_start_and_not_for_ever(store: Store, tmp_path: Path):
    (deadly,) = serving(store, tmp_path, 10**6)
    wish = Wish(name_of(deadly), at_once=True)
    store.want(wish)

    taken = [again(store).wish() for _ in range(MAX_TRIAL_STARTS + 3)]

    assert taken == [wish] * (1 + MAX_TRIAL_STARTS) + [None, None]
    assert (
        again(store).standing.refused[wish.name] == f"the agent was started {MAX_TRIAL_STARTS} times while it was tried"
    )


def test_a_newer_wish_takes_the_place_of_one_that_came_to_no_end(store: Store, tmp_path: Path):
    first, second = serving(store, tmp_path, 10**6, 10**6 + 1)
    store.want(Wish(name_of(first), rollback=True))
    again(store).wish()
    store.want(Wish(name_of(second)))

    assert again(store).wish() == Wish(name_of(second))
    assert again(store).wish() == Wish(name_of(second))


def test_of_a_wish_that_came_to_an_end_nothing_is_left_in_the_memory(store: Store, tmp_path: Path):
    (bundle,) = serving(store, tmp_path, 10**6)
    before = (store.path / "state.json").read_text()
    store.want(Wish(name_of(bundle)))
    agent = again(store)
    agent.wish()
    while_taken = (store.path / "state.json").read_text()

    agent.settled()

    assert while_taken != before
    assert (store.path / "state.json").read_text() == before


@pytest.mark.parametrize(
    "content",
    [
        '{"format": 1, "active": "../../etc"}',
        '{"format": 1, "active": 3}',
        '{"format": 1, "other": 1}',
        '{"format": 1, "taken": {"name": 3}}',
        '{"format": 1, "taken": ["name"]}',
    ],
)
def test_a_memory_of_another_shape_counts_as_none(store: Store, content: str):
    store.path.mkdir(parents=True)
    (store.path / "state.json").write_text(content)

    assert again(store).last_good().manifest_sha256 == default_bundle().manifest_sha256


def test_without_a_state_folder_bundles_are_loaded_from_where_they_stand(tmp_path: Path, trust: Path):
    store = Store(None, trust=trust)
    source = signed(tmp_path, trust, 7)

    bundle = store.stage(source, newest=0)
    store.activated(bundle, trial=True)

    assert bundle.path == source
    assert store.names() == []
    (source / "model.onnx").write_bytes(b"")
    with pytest.raises(BundleCorrupt):
        store.stage(source, newest=0)
