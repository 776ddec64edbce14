"""Orders of a roll-out: signed and new, or refused; what they name is judged as any bundle from outside."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from agent.bundles.store import PACKAGE, Store, Wish, name_of
from agent.delivery.inbox import Incoming
from agent.learning.rollout import MOST_ARCHIVES, PATIENCE_TURNS, Rollout
from contracts.bundle import Bundle, default_bundle, load_bundle
from contracts.bundle_change import pack_change
from contracts.errors import OutputError
from contracts.rollout import OrderHeader, pack_archive, pack_order
from tests.bundles import sign, write_refusal_bundle

AGGREGATOR = Ed25519PrivateKey.generate()
SERVING = 5


def key_file(folder: Path, key: Ed25519PrivateKey) -> None:
    folder.mkdir(mode=0o755, exist_ok=True)
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder / "aggregator.pub").write_bytes(pem)


class Gateway:
    """A gateway's store, its keys, and bundles by release."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.trust = folder / "trust.d"
        key_file(folder / "aggregators.d", AGGREGATOR)
        self.serving: Bundle = self.bundle(SERVING)
        self.restart()

    def restart(self) -> None:
        self.rollout = Rollout(
            self.state,
            gateway="attic",
            fleet="homes",
            aggregators=self.folder / "aggregators.d",
            store=lambda: self.store,
            serving=lambda: self.serving,
        )

    @property
    def store(self) -> Store:
        return Store(self.state / "models", trust=self.trust)

    def bundle(self, release: int, *, signed: bool = True) -> Bundle:
        folder = self.folder / f"r{release}{signed}"
        if not folder.exists():
            write_refusal_bundle(folder, release=release)
            if signed:
                sign(folder, self.trust)
        return load_bundle(folder, trust=self.trust if signed else None)

    def order(self, bundle: Bundle, number: int = 1, *, key: Ed25519PrivateKey = AGGREGATOR, **changes: object) -> None:
        archive = pack_archive(bundle)
        header = {
            "fleet": "homes", "gateway": "attic", "number": number, "release": bundle.manifest.release,
            "bundle_sha256": bundle.manifest_sha256, "archive_sha256": hashlib.sha256(archive).hexdigest(),
            "archive_bytes": len(archive), "is_rollback": False, "issued_us": 1, **changes,
        }  # fmt: skip
        self.say("penstock/v1/attic/manifest", pack_order(OrderHeader.model_validate(header), key))

    def send(self, bundle: Bundle, content: bytes | None = None) -> None:
        self.say(f"penstock/v1/fleet/homes/bundle/{bundle.manifest_sha256}", content or pack_archive(bundle))

    def say(self, topic: str, payload: bytes) -> None:
        self.rollout.take(Incoming(topic, payload, {}, is_retained=True))


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    return Gateway(tmp_path)


def test_a_bundle_that_was_ordered_and_came_is_staged_and_wanted(gateway: Gateway):
    new = gateway.bundle(6)

    gateway.order(new)
    assert gateway.rollout.outcome == "waiting"
    gateway.send(new)

    assert (gateway.rollout.outcome, gateway.rollout.number) == ("staged", 1)
    name = f"{6:019d}-{new.manifest_sha256[:16]}"
    assert gateway.store.names() == [name]
    assert gateway.store.wish() == Wish(name)


def test_it_may_come_before_its_order(gateway: Gateway):
    new = gateway.bundle(6)

    gateway.send(new)
    assert gateway.store.names() == []
    gateway.order(new)

    assert gateway.rollout.outcome == "staged"


def test_after_a_restart_the_retained_order_is_gone_on_with(gateway: Gateway):
    new = gateway.bundle(6)
    gateway.order(new)

    gateway.restart()
    gateway.order(new)
    gateway.send(new)

    assert gateway.rollout.outcome == "staged"


def test_the_same_order_again_is_harmless(gateway: Gateway):
    new = gateway.bundle(6)
    gateway.send(new)
    gateway.order(new)
    taken = gateway.store
    taken.wish()
    taken.settled()

    gateway.order(new)
    gateway.restart()
    gateway.order(new)

    assert (gateway.rollout.outcome, gateway.store.wish()) == ("staged", None)


def test_an_order_of_no_higher_number_is_refused_also_after_a_restart(gateway: Gateway):
    gateway.order(gateway.bundle(6), number=7)
    gateway.restart()

    gateway.order(gateway.bundle(8), number=7)
    gateway.order(gateway.bundle(8), number=6)

    assert (gateway.rollout.number, gateway.rollout.counts["refused expired round"]) == (7, 2)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"gateway": "cellar"}, "wrong gateway"), ({"fleet": "offices"}, "fleet")],
)
def test_an_order_to_somebody_else_is_refused(gateway: Gateway, changes: dict[str, object], reason: str):
    gateway.order(gateway.bundle(6), **changes)

    assert gateway.rollout.counts[f"refused {reason}"] == 1
    assert gateway.rollout.number == 0


def test_an_order_by_nobody_who_is_trusted_is_refused(gateway: Gateway):
    gateway.order(gateway.bundle(6), key=Ed25519PrivateKey.generate())
    gateway.say("penstock/v1/attic/manifest", b"PSO1")
    gateway.say("penstock/v1/attic/manifest", b"")

    assert gateway.rollout.counts == {"refused signature": 1, "refused truncated": 1}


def test_a_bundle_that_nobody_signed_is_turned_away_and_told(gateway: Gateway):
    new = gateway.bundle(6, signed=False)

    gateway.send(new)
    gateway.order(new)

    assert gateway.rollout.outcome.startswith("refused:")
    assert gateway.rollout.refused == [f"{6:019d}-{new.manifest_sha256[:16]}"]
    assert (gateway.store.names(), gateway.store.wish()) == ([], None)


def test_so_is_an_older_one(gateway: Gateway):
    gateway.send(gateway.bundle(4))
    gateway.order(gateway.bundle(4))

    assert gateway.rollout.outcome.startswith("refused:")
    assert gateway.store.wish() is None


def test_octets_that_are_not_those_of_the_order_are_waited_past(gateway: Gateway):
    new = gateway.bundle(6)
    gateway.order(new)

    gateway.send(new, b"PSB1 something else")
    assert gateway.rollout.outcome == "waiting"
    gateway.send(new)

    assert gateway.rollout.outcome == "staged"


def test_an_archive_that_holds_another_bundle_than_ordered_is_turned_away(gateway: Gateway):
    ordered, other = gateway.bundle(6), gateway.bundle(7)
    archive = pack_archive(other)

    gateway.send(ordered, archive)
    gateway.order(ordered, archive_sha256=hashlib.sha256(archive).hexdigest(), archive_bytes=len(archive))

    assert "another bundle" in gateway.rollout.outcome
    assert gateway.store.wish() is None


def test_what_serves_already_need_not_come(gateway: Gateway):
    gateway.order(gateway.serving)

    assert (gateway.rollout.outcome, gateway.store.wish()) == ("serves", None)


def test_what_was_taken_back_here_is_not_taken_up_again(gateway: Gateway):
    new = gateway.bundle(6)
    gateway.store.refuse(f"{6:019d}-{new.manifest_sha256[:16]}", "calls all an attack")

    gateway.send(new)
    gateway.order(new)

    assert gateway.rollout.outcome == "refused: refused here before: calls all an attack"
    assert gateway.store.wish() is None


def test_a_way_back_leads_to_what_served_before(gateway: Gateway):
    old = gateway.store.stage(gateway.bundle(4).path, newest=0)
    store = gateway.store
    store.activated(old, trial=False)
    store.activated(store.stage(gateway.serving.path, newest=0), trial=False)

    gateway.order(old, is_rollback=True)

    assert gateway.store.wish() == Wish(f"{4:019d}-{old.manifest_sha256[:16]}", rollback=True)


def test_or_to_the_package_and_nowhere_else(gateway: Gateway):
    gateway.order(gateway.bundle(3), is_rollback=True)
    assert gateway.rollout.outcome.startswith("refused: a way back")
    assert gateway.store.wish() is None

    gateway.order(default_bundle(), number=2, is_rollback=True)

    assert gateway.store.wish() == Wish(PACKAGE, rollback=True)


def test_two_archives_are_kept_and_names_are_no_paths(gateway: Gateway):
    for release in range(6, 11):
        gateway.send(gateway.bundle(release))
    gateway.say("penstock/v1/fleet/homes/bundle/../../x", b"x")
    gateway.say("penstock/v1/fleet/homes/bundle/" + "A" * 64, b"x")

    found = list((gateway.state / "federation" / "bundles").iterdir())
    assert len(found) == MOST_ARCHIVES
    assert gateway.rollout.counts["refused schema"] == 2


def test_a_disk_that_was_full_is_tried_once_more(gateway: Gateway, monkeypatch: pytest.MonkeyPatch):
    new = gateway.bundle(6)
    gateway.send(new)

    def full(self: Store, *_: object, **__: object) -> Bundle:
        raise OutputError("models: no space left")

    with monkeypatch.context() as patched:
        patched.setattr(Store, "stage", full)
        gateway.order(new)
        assert gateway.rollout.outcome == "failed: models: no space left"
        gateway.rollout.turn()
    gateway.rollout.turn()

    assert gateway.rollout.outcome == "staged"


def test_a_folder_of_keys_that_others_may_write_is_no_reason_to_stop(gateway: Gateway):
    (gateway.folder / "aggregators.d").chmod(0o777)

    gateway.order(gateway.bundle(6))

    assert (gateway.rollout.counts["failed"], gateway.rollout.number) == (1, 0)


def test_a_bundle_comes_as_a_change_to_what_serves_and_is_staged(gateway: Gateway):
    base, new = gateway.serving, gateway.bundle(6)
    change = pack_change(pack_archive(new), base=pack_archive(base), base_sha256=base.manifest_sha256)

    gateway.order(new)
    gateway.send(new, change)

    assert len(change) < len(pack_archive(new)) / 2
    assert gateway.rollout.outcome == "staged"
    assert gateway.store.wish() == Wish(name_of(new))


def test_a_change_to_the_packages_bundle_is_taken_whatever_serves(gateway: Gateway):
    new, base = gateway.bundle(6), default_bundle()
    assert gateway.serving.manifest_sha256 != base.manifest_sha256

    gateway.order(new)
    gateway.send(new, pack_change(pack_archive(new), base=pack_archive(base), base_sha256=base.manifest_sha256))

    assert gateway.rollout.outcome == "staged"


def test_where_no_change_makes_what_an_order_waits_for_the_whole_archive_is_heard_for_so_long(gateway: Gateway):
    new, other = gateway.bundle(6), gateway.bundle(7)
    whole = f"penstock/v1/fleet/homes/whole/{new.manifest_sha256}"
    gateway.order(new)
    gateway.send(new, pack_change(pack_archive(new), base=pack_archive(other), base_sha256=other.manifest_sha256))
    assert gateway.rollout.counts["changes to another bundle"] == 1
    assert whole not in [each.topic_filter for each in gateway.rollout.subscriptions]

    for _ in range(PATIENCE_TURNS):
        gateway.rollout.turn()
    assert whole in [each.topic_filter for each in gateway.rollout.subscriptions]
    gateway.say(whole, pack_archive(new))

    assert gateway.rollout.outcome == "staged"
    assert whole not in [each.topic_filter for each in gateway.rollout.subscriptions]


@pytest.mark.parametrize(
    "content", [b"PSD1", b"PSD1" + bytes(40), b"PSD1" + bytes(32) + b"\x28\xb5\x2f\xfd" + b"\xff" * 90]
)
def test_a_change_that_is_none_is_counted_and_nothing_is_kept(gateway: Gateway, content: bytes):
    sha256 = bytes.fromhex(gateway.serving.manifest_sha256)

    gateway.send(gateway.bundle(6), content[:4] + sha256 + content[36:] if len(content) > 36 else content)

    assert gateway.rollout.counts["failed"] == 1
    assert not list((gateway.state / "federation").glob("bundles/*.archive"))


@pytest.mark.parametrize("content", [b"PSD1", b"PSD1" + bytes(32) + b"\x28\xb5\x2f\xfd" + b"\xff" * 90])
def test_what_came_of_an_order_is_not_for_an_archive_of_noise_to_say(gateway: Gateway, content: bytes):
    """An order that had ended was followed once more when it was heard again, whatever an operator chose meanwhile."""
    new = gateway.bundle(6)
    gateway.send(new)
    gateway.order(new)
    gateway.store.want(Wish(PACKAGE, rollback=True))
    sha256 = bytes.fromhex(gateway.serving.manifest_sha256)

    gateway.send(gateway.bundle(7), content[:4] + sha256 + content[36:] if len(content) > 36 else content)
    gateway.order(new)

    assert gateway.rollout.outcome == "staged"
    assert gateway.store.wish() == Wish(PACKAGE, rollback=True)
    assert gateway.rollout.counts["failed"] == 1


def test_an_archive_that_comes_on_every_connection_is_written_once(gateway: Gateway):
    new = gateway.bundle(6)
    gateway.send(new)
    (path,) = (gateway.state / "federation" / "bundles").glob("*.archive")
    before = path.stat()

    gateway.send(new)
    assert path.stat().st_ino == before.st_ino
    gateway.send(new, b"noise")

    assert path.read_bytes() == b"noise"


def test_a_change_that_makes_another_bundle_is_not_what_an_order_names(gateway: Gateway):
    base, new, other = gateway.serving, gateway.bundle(6), gateway.bundle(7)
    gateway.order(new)

    gateway.send(new, pack_change(pack_archive(other), base=pack_archive(base), base_sha256=base.manifest_sha256))

    assert gateway.rollout.outcome == "waiting"
