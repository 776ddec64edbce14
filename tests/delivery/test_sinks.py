"""The ways out beside the broker: files that rotate, streams whose reader stalls, and what they count."""

import errno
import json
import os
import queue
import threading

import pytest

from agent.delivery import Delivery, EveSink, StdoutSink, queued
from agent.delivery.queued import QueuedSink
from agent.delivery.sink import MOST_WAITING
from contracts.errors import OutputError
from contracts.eve import render_eve
from tests.alerts import make_alert

LINE = len(render_eve(make_alert())) + 1
PATIENCE_S = 120


def numbers(path):
    """Return which of make_alert's alerts a file of EVE lines holds."""
    return [json.loads(line)["flow_id"] - make_alert().flow_id for line in path.read_text().splitlines()]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "eve.json"


def test_a_file_of_exactly_the_size_stays_and_one_line_more_begins_a_new_one(path):
    sink = EveSink(path, rotate_bytes=2 * LINE, keep_files=2)

    for number in range(7):
        sink.write(make_alert(number))

    names = sorted(each.name for each in path.parent.iterdir())
    assert names == ["eve.json", "eve.json.1", "eve.json.2"]
    assert [numbers(path.parent / name) for name in names] == [[6], [4, 5], [2, 3]]
    assert sink.facts().written == 7


def test_a_line_longer_than_the_size_stands_in_a_file_of_its_own(path):
    sink = EveSink(path, rotate_bytes=10, keep_files=1)

    for number in range(3):
        sink.write(make_alert(number))

    assert (numbers(path), numbers(path.with_name("eve.json.1"))) == ([2], [1])


def test_no_old_file_is_kept_where_none_is_wanted(path):
    sink = EveSink(path, rotate_bytes=LINE, keep_files=0)

    for number in range(3):
        sink.write(make_alert(number))

    assert [each.name for each in path.parent.iterdir()] == ["eve.json"]
    assert numbers(path) == [2]


def test_a_restart_adds_to_the_file_and_counts_what_stands_in_it(path):
    EveSink(path, rotate_bytes=2 * LINE).write(make_alert(0))

    again = EveSink(path, rotate_bytes=2 * LINE)
    again.write(make_alert(1))
    again.write(make_alert(2))

    assert (numbers(path.with_name("eve.json.1")), numbers(path)) == ([0, 1], [2])


@pytest.mark.parametrize("notice", ["reopen", "tick"])
def test_a_file_that_logrotate_moved_is_followed_by_a_new_one(path, notice):
    sink = EveSink(path)
    sink.write(make_alert(0))
    path.rename(path.with_name("moved"))

    sink.write(make_alert(1))
    getattr(sink, notice)()
    sink.write(make_alert(2))

    assert (numbers(path.with_name("moved")), numbers(path)) == ([0, 1], [2])


def test_a_file_that_was_deleted_is_made_again_within_a_tick(path):
    sink = EveSink(path)
    path.unlink()

    sink.tick()
    sink.write(make_alert(0))

    assert numbers(path) == [0]


class FullDisk:
    """Takes so many more bytes, then none, as the kernel does: first a short write, then ENOSPC."""

    def __init__(self, monkeypatch, room):
        self.room = room
        self._write = os.write
        monkeypatch.setattr(os, "write", self)

    def __call__(self, fd, text):
        if self.room <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = self._write(fd, text[: self.room])
        self.room -= written
        return written


def test_a_full_disk_loses_nothing_until_memory_is_full_too_and_is_said_once(path, monkeypatch, caplog):
    sink = EveSink(path)
    disk = FullDisk(monkeypatch, room=LINE + 100)
    for number in range(MOST_WAITING + 6):
        sink.write(make_alert(number))
    facts = sink.facts()

    assert (facts.written, facts.waiting, facts.failed) == (1, MOST_WAITING, 5)
    assert "No space left on device" in facts.trouble
    assert numbers(path) == [0]

    disk.room = 1 << 30
    sink.tick()

    assert numbers(path) == [0, *range(6, MOST_WAITING + 6)]
    assert (sink.facts().written, sink.facts().waiting, sink.facts().trouble) == (MOST_WAITING + 1, 0, "")
    assert [record.getMessage()[:20] for record in caplog.records] == [
        "eve: eve: " + str(path)[:10],
        "eve: writes again, 5",
    ]


def test_what_still_waits_at_the_end_is_counted_as_lost(path, monkeypatch):
    sink = EveSink(path)
    FullDisk(monkeypatch, room=0)
    sink.write(make_alert())

    sink.close()
    sink.close()

    assert (sink.facts().failed, sink.facts().waiting) == (1, 0)


def test_a_folder_that_goes_away_is_waited_for(path):
    folder = path.parent / "log"
    folder.mkdir()
    sink = EveSink(folder / "eve.json")
    (folder / "eve.json").unlink()
    folder.rmdir()

    sink.tick()
    sink.write(make_alert(0))
    assert "No such file" in sink.facts().trouble
    folder.mkdir()
    sink.tick()

    assert numbers(folder / "eve.json") == [0]


def test_a_rotation_that_fails_is_named_and_the_lines_wait(path):
    sink = EveSink(path, rotate_bytes=LINE, keep_files=1)
    (path.parent / "eve.json.1" / "in the way").mkdir(parents=True)
    sink.write(make_alert(0))

    sink.write(make_alert(1))

    assert "cannot be rotated" in sink.facts().trouble
    assert sink.facts().waiting == 1
    (path.parent / "eve.json.1" / "in the way").rmdir()
    (path.parent / "eve.json.1").rmdir()
    sink.tick()
    assert (numbers(path), sink.facts().trouble) == ([1], "")


def test_a_pipe_is_no_file_for_a_service(path):
    os.mkfifo(path)

    with pytest.raises(OutputError, match="not a regular file"):
        EveSink(path)


def test_the_file_is_not_for_everybody(path):
    EveSink(path)

    assert path.stat().st_mode & 0o007 == 0


# Queues


class Outlet:
    """Sends into a list; fails or hangs as it is told."""

    def __init__(self):
        self.sent = queue.SimpleQueue()
        self.may_send = threading.Event()
        self.may_send.set()
        self.failures = 0
        self.tried = queue.SimpleQueue()
        self.is_closed = False

    def message(self, alert):
        return str(alert.flow_id - make_alert().flow_id).encode()

    def send(self, message):
        self.tried.put(message)
        self.may_send.wait()
        if self.failures:
            self.failures -= 1
            raise OSError(errno.ECONNREFUSED, "Connection refused")
        self.sent.put(message)

    def close(self):
        self.is_closed = True


def drained(fifo):
    found = []
    while not fifo.empty():
        found.append(int(fifo.get()))
    return found


def test_a_queue_sends_in_order_and_all_that_waits_before_it_closes():
    outlet = Outlet()
    sink = QueuedSink("test", outlet)

    for number in range(100):
        sink.write(make_alert(number))
    sink.close()

    assert drained(outlet.sent) == list(range(100))
    assert outlet.is_closed
    assert (sink.facts().written, sink.facts().failed, sink.facts().waiting) == (100, 0, 0)


def test_a_reader_that_stalls_holds_up_nobody_and_costs_the_oldest_lines():
    outlet = Outlet()
    outlet.may_send.clear()
    sink = QueuedSink("test", outlet, most_waiting=3)
    sink.write(make_alert(0))
    outlet.tried.get(timeout=PATIENCE_S)

    for number in range(1, 10):
        sink.write(make_alert(number))

    assert (sink.facts().failed, sink.facts().waiting) == (6, 4)
    outlet.may_send.set()
    sink.close()
    assert drained(outlet.sent) == [0, 7, 8, 9]
    assert (sink.facts().written, sink.facts().failed) == (4, 6)


def test_a_message_that_was_not_sent_is_tried_again(caplog):
    outlet = Outlet()
    outlet.failures = 2
    sink = QueuedSink("test", outlet)

    sink.write(make_alert(0))
    sink.write(make_alert(1))
    sent = [outlet.sent.get(timeout=PATIENCE_S) for _ in range(2)]
    sink.close()

    assert sent == [b"0", b"1"]
    assert [record.getMessage() for record in caplog.records] == [
        "test: Connection refused",
        "test: writes again, 0 alerts lost so far",
    ]


def test_closing_does_not_wait_for_a_reader_that_hangs_and_counts_what_it_did_not_take(monkeypatch):
    monkeypatch.setattr(queued, "CLOSE_S", 0.05)
    outlet = Outlet()
    outlet.may_send.clear()
    sink = QueuedSink("test", outlet)
    for number in range(3):
        sink.write(make_alert(number))
    outlet.tried.get(timeout=PATIENCE_S)

    sink.close()
    sink.write(make_alert(9))

    assert (sink.facts().failed, sink.facts().waiting, sink.facts().written) == (4, 0, 0)
    outlet.may_send.set()


def test_a_queue_that_was_never_used_has_no_thread():
    sink = QueuedSink("test", Outlet())

    sink.close()

    assert sink._messages._thread.ident is None  # one that began has a number


@pytest.mark.parametrize(("form", "start"), [("eve", "{"), ("cef", "CEF:0|")])
def test_standard_output_gets_lines_of_the_format(capfd, form, start):
    sink = StdoutSink(format=form)

    for number in range(3):
        sink.write(make_alert(number))
    sink.close()

    lines = capfd.readouterr().out.splitlines()
    assert [line[: len(start)] for line in lines] == [start] * 3


# Behind a delivery


def test_a_sink_that_cannot_write_stops_neither_the_caller_nor_the_other_sinks(path, monkeypatch):
    sink, outlet = EveSink(path), Outlet()
    with Delivery([sink, QueuedSink("test", outlet)]) as delivery:
        FullDisk(monkeypatch, room=0)
        delivery.take(make_alert(0))
        outlet.sent.get(timeout=PATIENCE_S)

        facts = {each.name: each for each in delivery.facts().sinks}
        monkeypatch.undo()
        delivery.tick()

    assert (facts["eve"].waiting, facts["test"].failed, delivery.alerts) == (1, 0, 1)
    assert numbers(path) == [0]


def test_a_reload_closes_the_sinks_that_left_and_keeps_the_others(path):
    stays, leaves, comes = EveSink(path), Outlet(), Outlet()
    with Delivery([stays, QueuedSink("old", leaves)]) as delivery:
        delivery.take(make_alert(0))
        delivery.use(sinks=[stays, QueuedSink("new", comes)])
        delivery.take(make_alert(1))
        delivery.reopen()
        delivery.take(make_alert(2))

    assert numbers(path) == [0, 1, 2]
    assert (drained(leaves.sent), drained(comes.sent)) == ([0], [1, 2])
    assert leaves.is_closed
