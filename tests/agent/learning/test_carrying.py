"""Messages of a round between broker and trainer: bounded, whole, opaque; off the disk only once they are durable."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from agent.delivery.inbox import Incoming
from agent.delivery.letters import Posted
from agent.learning.carrying import MAX_OUT_BYTES, MOST_FILES, Carrier

ROUND, ANCHORS = "penstock/v1/fleet/homes/round", "penstock/v1/fleet/homes/anchors"
DOWN = "penstock/v1/attic/federation/down/"


class Outbox:
    """Takes posts; says that they are on disk, or not."""

    def __init__(self) -> None:
        self.posts: list[tuple[str, bytes]] = []
        self.is_durable = True

    def __call__(self, topic: str, payload: bytes, *, content_type: str) -> Posted | None:
        self.posts.append((topic, payload))
        posted = Posted()
        posted.settle(is_durable=self.is_durable)
        return posted


@pytest.fixture
def outbox() -> Outbox:
    return Outbox()


@pytest.fixture
def carrier(tmp_path: Path, outbox: Outbox) -> Carrier:
    (tmp_path / "federation" / "out").mkdir(parents=True)
    return Carrier(tmp_path, gateway="attic", fleet="homes", post=outbox)


def message(topic: str, payload: bytes = b"octets") -> Incoming:
    return Incoming(topic, payload, {}, is_retained=True)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def test_a_call_is_laid_whole_and_asks_for_a_run(carrier: Carrier):
    came = carrier.lay([message(ROUND, b"call")])

    (path,) = carrier.inbox.iterdir()
    assert (came, path.suffix, path.read_bytes()) == ({"call"}, ".call", b"call")
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_same_call_again_changes_nothing_and_asks_for_nothing(carrier: Carrier):
    carrier.lay([message(ROUND, b"call")])
    (path,) = carrier.inbox.iterdir()
    written = path.stat().st_mtime_ns

    came = carrier.lay([message(ROUND, b"call")])

    assert (came, path.stat().st_mtime_ns, carrier.counts["in repeated"]) == (set(), written, 1)


def test_anchors_alone_ask_for_nothing(carrier: Carrier):
    assert carrier.lay([message(ANCHORS)]) == set()
    assert [path.suffix for path in carrier.inbox.iterdir()] == [".anchors"]


def test_a_private_round_goes_on_in_one_file_that_is_replaced(carrier: Carrier):
    came = carrier.lay([message(f"{DOWN}7", b"roster"), message(f"{DOWN}7", b"relay")])

    assert (came, names(carrier.inbox)) == ({"down"}, ["0000000007.down"])
    assert (carrier.inbox / "0000000007.down").read_bytes() == b"relay"


@pytest.mark.parametrize("number", ["", "x", "-1", "1/2", "../../x", "12345678901", "٣"])
def test_a_topic_that_names_no_round_is_refused(carrier: Carrier, number: str):
    assert carrier.lay([message(f"{DOWN}{number}")]) == set()
    assert names(carrier.inbox) == []


@pytest.mark.parametrize("topic", ["penstock/v1/attic/feedback", "penstock/v1/fleet/other/round", "x"])
def test_what_is_somebody_elses_is_left_alone(carrier: Carrier, topic: str):
    assert carrier.lay([message(topic)]) == set()
    assert names(carrier.inbox) == []


def test_a_message_that_clears_what_was_retained_is_no_call(carrier: Carrier):
    assert carrier.lay([message(ROUND, b"")]) == set()


def test_only_the_newest_calls_stay(carrier: Carrier):
    for number in range(MOST_FILES + 3):
        carrier.lay([message(ROUND, b"%d" % number)])
        for path in carrier.inbox.iterdir():
            if path.read_bytes() == b"%d" % number:
                os.utime(path, ns=(number, number))

    left = {path.read_bytes() for path in carrier.inbox.iterdir()}
    assert left == {b"%d" % number for number in range(3, MOST_FILES + 3)}


def test_an_update_leaves_the_disk_once_the_outbox_has_it(carrier: Carrier, outbox: Outbox):
    (carrier.outbox / "0000000007.update").write_bytes(b"update")
    (carrier.outbox / "0000000007.up").write_bytes(b"keys")

    carrier.turn()

    assert sorted(outbox.posts) == [
        ("penstock/v1/attic/federation/up/7", b"keys"),
        ("penstock/v1/attic/update/7", b"update"),
    ]
    assert (names(carrier.outbox), names(carrier.sending)) == ([], [])


def test_what_cannot_be_read_just_now_stays(carrier: Carrier, outbox: Outbox, monkeypatch: pytest.MonkeyPatch):
    """A gateway under a flood may have no descriptor left; the update is the only one of its round."""
    (carrier.outbox / "0000000007.update").write_bytes(b"update")

    def none_left(path: Path, **_: object) -> bytes:
        raise OSError(errno.EMFILE, "Too many open files", str(path))

    with monkeypatch.context() as patch:
        patch.setattr("agent.learning.carrying.read_bounded", none_left)
        carrier.turn()
    assert (names(carrier.sending), carrier.counts["out failed"]) == (["0000000007.update"], 1)

    carrier.turn()
    assert outbox.posts == [("penstock/v1/attic/update/7", b"update")]


def test_until_then_it_stays_and_is_posted_again_also_after_a_restart(carrier: Carrier, outbox: Outbox, tmp_path: Path):
    (carrier.outbox / "0000000007.update").write_bytes(b"update")
    outbox.is_durable = False
    carrier.turn()
    assert names(carrier.sending) == ["0000000007.update"]

    outbox.is_durable = True
    Carrier(tmp_path, gateway="attic", fleet="homes", post=outbox).turn()

    assert (len(outbox.posts), names(carrier.sending)) == (2, [])


def test_what_the_trainer_writes_meanwhile_under_the_same_name_is_sent_after_it(carrier: Carrier, outbox: Outbox):
    (carrier.outbox / "0000000007.up").write_bytes(b"keys")
    outbox.is_durable = False
    carrier.turn()
    (carrier.outbox / "0000000007.up").write_bytes(b"shares")
    carrier.turn()
    assert {payload for _, payload in outbox.posts} == {b"keys"}

    outbox.is_durable = True
    carrier.turn()
    carrier.turn()

    assert [payload for _, payload in outbox.posts][-2:] == [b"keys", b"shares"]
    assert (names(carrier.outbox), names(carrier.sending)) == ([], [])


def test_without_a_broker_nothing_is_lost(tmp_path: Path):
    carrier = Carrier(tmp_path, gateway="attic", fleet="homes", post=lambda *_, **__: None)
    carrier.outbox.mkdir(parents=True)
    (carrier.outbox / "0000000007.update").write_bytes(b"update")

    carrier.turn()

    assert names(carrier.sending) == ["0000000007.update"]


def test_drafts_other_names_and_links_are_not_sent(carrier: Carrier, outbox: Outbox, tmp_path: Path):
    (carrier.outbox / ".0000000007.update.00ff00ff00ff00ff.draft").write_bytes(b"half")
    (carrier.outbox / "passwords").write_bytes(b"x")
    (tmp_path / "secret").write_bytes(b"secret")
    (carrier.outbox / "1.update").symlink_to(tmp_path / "secret")

    carrier.turn()

    assert outbox.posts == []


def test_one_octet_too_many_is_deleted_and_counted(carrier: Carrier, outbox: Outbox):
    (carrier.outbox / "1.update").write_bytes(bytes(MAX_OUT_BYTES + 1))
    (carrier.outbox / "2.update").write_bytes(bytes(MAX_OUT_BYTES))

    carrier.turn()

    assert ([topic for topic, _ in outbox.posts], carrier.counts["out refused"]) == (["penstock/v1/attic/update/2"], 1)
    assert names(carrier.sending) == []


def test_a_disk_that_takes_nothing_is_counted_and_told(carrier: Carrier, tmp_path: Path):
    (tmp_path / "federation" / "in").write_bytes(b"a file where a folder should be")

    came = carrier.lay([message(ROUND)])

    assert (came, carrier.counts["in failed"]) == (set(), 1)
    assert carrier.trouble


def test_where_only_private_rounds_are_answered_an_unmasked_update_is_deleted_and_masked_steps_leave(
    outbox: Outbox, tmp_path: Path
):
    carrier = Carrier(tmp_path, gateway="attic", fleet="homes", post=outbox, is_private_only=True)
    carrier.outbox.mkdir(parents=True)
    (carrier.outbox / "1.update").write_bytes(b"PSU1 and a gateway's own steps")
    (carrier.outbox / "2.update").write_bytes(b"PSM1 and masked ones")

    carrier.turn()

    assert [payload for _, payload in outbox.posts] == [b"PSM1 and masked ones"]
    assert carrier.counts["out unmasked"] == 1
    assert not list(carrier.sending.iterdir())
