"""From one bundle to the next: the shadow, the swap between two batches, the way back; one serves at every moment."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.bundles.store import MAX_TRIAL_STARTS, PACKAGE, Store, Wish, name_of
from agent.bundles.swap import BundleSwap
from agent.bundles.trial import Served
from contracts.bundle import Bundle, default_bundle
from contracts.errors import BundleCorrupt, SchemaMismatch
from detection.onnx_engine import OnnxEngine
from flowfeatures import WINDOW_COLUMNS, WindowBatch
from tests.bundles import sign, write_nervous_bundle, write_refusal_bundle, write_wild_bundle
from tests.detection.windows import Row, Window, batch_of

pytest.importorskip("onnxruntime")
SHADOW = 20


class World:
    """A swap with a store, and what was used since."""

    def __init__(self, tmp_path: Path) -> None:
        self.trust = tmp_path / "trust.d"
        self.tmp_path = tmp_path
        self.store = Store(tmp_path / "models", trust=self.trust)
        self.used: list[int] = []
        first = self.staged(write_refusal_bundle(tmp_path / "first", release=1000))
        self.store.activated(first, trial=False)
        self.is_busy = False
        self.start()

    def start(self) -> None:
        """Be an agent that has just begun, whatever became of the one before."""
        self.store = Store(self.store.path, trust=self.trust)
        first = self.store.last_good()
        self.swap = BundleSwap(
            Served(first, OnnxEngine(first)),
            store=self.store,
            engine_of=OnnxEngine,
            use=lambda served: self.used.append(served.bundle.manifest.release),
            shadow_windows=SHADOW,
            is_busy=lambda: self.is_busy,
        )

    def staged(self, folder: Path) -> Bundle:
        return self.store.stage(sign(folder, self.trust), newest=0)

    def offered(self, folder: Path, **how: bool) -> None:
        self.swap.offer(self.swap.made(self.staged(folder)), **how)

    @property
    def active(self) -> str:
        return Store(self.store.path, trust=self.trust).standing.active


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def quiet(count: int = 10) -> WindowBatch:
    """Return windows in which nothing is refused, of TCP records."""
    batch = batch_of(*[Window("192.168.1.1", [Row("192.168.1.1", "203.0.113.1")])] * count)
    batch.values[:, 0, WINDOW_COLUMNS.index("is_tcp")] = 1.0
    return batch


def test_a_bundle_serves_after_it_has_seen_enough_and_then_stays(world: World):
    world.offered(write_refusal_bundle(world.tmp_path / "next", release=1001))
    used = []
    for _ in range(4):
        world.swap.judged(quiet())
        used.append(list(world.used))

    assert used == [[], [1001], [1001], [1001]]
    assert (world.swap.swaps, world.swap.rollbacks, world.swap.probation) == (1, 0, None)
    assert world.active.startswith("0" * 15 + "1001-")
    assert world.store.standing.trial_starts is None


def test_one_that_cries_wolf_in_the_shadow_never_serves(world: World):
    world.offered(write_nervous_bundle(world.tmp_path / "next", release=1001))
    for _ in range(2):
        world.swap.judged(quiet())

    assert world.used == []
    assert (world.swap.refused, world.swap.shadow) == (1, None)
    assert world.swap.last_refusal == "calls 20 of 20 windows attacks, the one before 0"


def test_one_that_gives_what_is_no_score_in_the_shadow_never_serves(world: World):
    world.offered(write_wild_bundle(world.tmp_path / "next", release=1001))
    world.swap.judged(quiet())

    assert world.used == []
    assert "wanted a number from 0 to 1" in world.swap.last_refusal


def test_one_that_fails_after_the_swap_is_taken_back(world: World):
    world.offered(write_refusal_bundle(world.tmp_path / "next", release=1001))
    for _ in range(2):
        world.swap.judged(quiet())

    world.swap.failed(BundleCorrupt("gave 7 as probabilities"))

    assert world.used == [1001, 1000]
    assert world.swap.rollbacks == 1
    assert world.active.startswith("0" * 15 + "1000-")
    assert "gave 7" in next(iter(world.store.standing.refused.values()))


def test_one_that_cries_wolf_after_the_swap_is_taken_back(world: World):
    world.offered(write_nervous_bundle(world.tmp_path / "next", release=1001), at_once=False)
    world.swap.shadow.wanted, world.swap.shadow.now_s = 0, lambda: 0.0  # a first call may take its time
    world.swap.judged(quiet(1))
    for _ in range(2):
        world.swap.judged(quiet())

    assert world.used == [1001, 1000]
    assert world.active.startswith("0" * 15 + "1000-")


def test_where_none_is_left_to_go_back_to_the_package_serves(world: World):
    world.swap.failed(BundleCorrupt("gave 7 as probabilities"))

    assert world.used == [default_bundle().manifest.release]
    assert world.active == PACKAGE


def test_one_that_fails_after_its_trial_gives_way_to_the_one_before(world: World):
    world.offered(write_refusal_bundle(world.tmp_path / "next", release=1001), at_once=True)

    world.swap.failed(BundleCorrupt("gave 7 as probabilities"))

    assert world.used == [1001, 1000]
    assert world.active.startswith("0" * 15 + "1000-")


def test_a_trial_in_the_shadow_is_not_begun_anew_by_the_same_offer(world: World):
    folder = write_refusal_bundle(world.tmp_path / "next", release=1001)
    world.offered(folder)
    world.swap.judged(quiet())
    world.offered(folder)

    assert world.swap.shadow.windows == 10


def test_where_the_package_itself_fails_the_error_is_ours(world: World):
    world.swap.failed(BundleCorrupt("gave 7"))

    with pytest.raises(BundleCorrupt, match="gave 8"):
        world.swap.failed(BundleCorrupt("gave 8"))


def test_killed_in_the_shadow_and_on_trial_it_goes_through_both_all_the_same(world: World):
    newer = world.staged(write_refusal_bundle(world.tmp_path / "next", release=1001))
    world.store.want(Wish(name_of(newer)))
    world.swap.look()
    world.swap.judged(quiet())

    world.start()  # killed in the shadow
    world.swap.look()
    shadow = world.swap.shadow
    for _ in range(2):
        world.swap.judged(quiet())
    world.start()  # killed on trial
    starts, probation = world.store.standing.trial_starts, world.swap.probation
    for _ in range(2):
        world.swap.judged(quiet())
    for _ in range(MAX_TRIAL_STARTS + 1):
        world.start()
        world.swap.look()

    assert (shadow.subject.bundle.manifest.release, shadow.windows) == (1001, SHADOW)
    assert world.used == [1001]
    assert (starts, probation.reference.bundle.manifest.release) == (1, 1000)
    assert world.swap.serving.bundle.manifest.release == 1001
    assert (world.swap.shadow, world.swap.probation, world.store.standing.refused) == (None, None, {})


def test_one_that_cries_wolf_after_a_start_on_trial_is_taken_back(world: World):
    world.offered(write_nervous_bundle(world.tmp_path / "next", release=1001))
    world.swap.shadow.wanted, world.swap.shadow.now_s = 0, lambda: 0.0  # a first call may take its time
    world.swap.judged(quiet(1))
    world.start()
    for _ in range(2):
        world.swap.judged(quiet())

    assert world.used == [1001, 1000]
    assert "1001" in next(iter(world.store.standing.refused))


def test_on_trial_with_nothing_left_to_compare_with_it_has_passed(world: World):
    world.store.activated(default_bundle(), trial=True)
    world.store.standing.previous = PACKAGE
    world.swap = BundleSwap(
        Served(default_bundle(), OnnxEngine(default_bundle())), store=world.store, engine_of=OnnxEngine,
        use=lambda _: None, shadow_windows=SHADOW,
    )  # fmt: skip

    assert (world.swap.probation, world.store.standing.trial_starts) == (None, None)


def test_a_trial_asks_what_the_operator_answered_of_the_one_before(world: World):
    asked: list[int] = []
    world.swap._answering = lambda served: lambda batch, *_: asked.append(served.bundle.manifest.release) or set()
    world.offered(write_refusal_bundle(world.tmp_path / "next", release=1001))
    for _ in range(4):
        world.swap.judged(quiet())

    assert asked == [1000] * 4


def test_a_wish_refused_in_the_shadow_is_not_tried_again_by_the_next_start(world: World):
    wolf = world.staged(write_nervous_bundle(world.tmp_path / "next", release=1001))
    world.store.want(Wish(name_of(wolf)))
    world.swap.look()
    for _ in range(2):
        world.swap.judged(quiet())

    world.start()
    world.swap.look()

    assert (world.swap.shadow, world.store.standing.taken) == (None, None)


def test_nothing_is_scored_twice_while_scoring_is_behind(world: World):
    world.offered(write_refusal_bundle(world.tmp_path / "next", release=1001))
    world.is_busy = True
    for _ in range(9):
        world.swap.judged(quiet())

    assert (world.used, world.swap.shadow.windows) == ([], 0)


def test_windows_of_another_size_want_a_restart(world: World):
    with pytest.raises(SchemaMismatch, match="windows of 32 flows, wanted 16 as in use: restart"):
        world.offered(write_refusal_bundle(world.tmp_path / "next", release=1001, window=32))

    assert world.used == []


def test_the_same_bundle_once_more_is_no_change(world: World):
    world.offered(world.tmp_path / "first")

    assert (world.used, world.swap.shadow) == ([], None)


def test_an_operator_goes_back_at_once(world: World):
    world.offered(write_refusal_bundle(world.tmp_path / "next", release=1001), at_once=True)
    world.store.want(Wish(world.store.standing.previous, rollback=True))

    world.swap.look()

    assert world.used == [1001, 1000]
    assert world.store.standing.rolled_back


@pytest.mark.parametrize("spoil", [False, True])
def test_a_wish_that_cannot_be_granted_is_refused_and_told(world: World, spoil: bool):
    older = world.staged(write_refusal_bundle(world.tmp_path / "older", release=5))
    if spoil:
        (older.path / "model.onnx").write_bytes(b"")
    world.store.want(Wish(name_of(older)))

    world.swap.look()

    assert world.used == []
    assert world.swap.refused == 1
    assert ("sha256" if spoil else "wanted 1000 or later") in world.swap.last_refusal
