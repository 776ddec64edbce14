import threading

import pytest

from agent.delivery import Delivery, EveFile, MqttSettings
from contracts.errors import OutboxError, OutputError
from contracts.eve import render_eve
from tests.alerts import make_alert
from tests.ports import free_port


def absent():
    return MqttSettings.from_url(f"mqtt://127.0.0.1:{free_port()}", gateway="replay")


def test_without_a_broker_there_is_a_file_and_neither_outbox_nor_thread(tmp_path):
    before = set(threading.enumerate())  # of tests before: they may end meanwhile
    with Delivery(eve=EveFile(str(tmp_path / "eve.json"))) as delivery:
        delivery.publish(make_alert())

        assert set(threading.enumerate()) <= before
        assert (delivery.drain(60), delivery.left, delivery.outbox_path, delivery.reason) == (0, 0, None, "")
        delivery.check()

    assert (tmp_path / "eve.json").read_text() == render_eve(make_alert()) + "\n"


def test_an_alert_nobody_wants_is_counted():
    with Delivery() as delivery:
        delivery.publish(make_alert())

        assert (delivery.alerts, delivery.left) == (1, 0)


def test_the_way_to_the_broker_is_open_though_the_file_is_full(tmp_path):
    with Delivery(eve=EveFile("/dev/full"), mqtt=absent(), outbox=tmp_path / "outbox.db") as delivery:
        with pytest.raises(OutputError, match="/dev/full: cannot be written: No space left on device"):
            delivery.publish(make_alert())

        assert delivery.left == 1


def test_an_outbox_that_cannot_be_opened_is_named_before_anything_is_read(tmp_path):
    with pytest.raises(OutboxError, match="cannot be opened"), Delivery(mqtt=absent(), outbox=tmp_path / "no" / "x.db"):
        pass


def test_waiting_for_a_broker_that_is_not_there_ends_in_time_by_the_clock_that_was_given(tmp_path):
    now_s = [0.0]

    def clock_s():
        now_s[0] += 10.0
        return now_s[0]

    with Delivery(mqtt=absent(), outbox=tmp_path / "outbox.db", clock_s=clock_s) as delivery:
        delivery.publish(make_alert())

        assert delivery.drain(5.0) == 1


def test_closing_twice_is_closing_once(tmp_path):
    with Delivery(mqtt=absent(), outbox=tmp_path / "outbox.db") as delivery:
        delivery.publish(make_alert())
        delivery.close()

    assert delivery.left == 1
    assert (tmp_path / "outbox.db").exists()


def test_many_threads_may_publish(tmp_path):
    with Delivery(eve=EveFile(str(tmp_path / "eve.json")), mqtt=absent(), outbox=tmp_path / "outbox.db") as delivery:
        threads = [
            threading.Thread(target=lambda base=base: [delivery.publish(make_alert(base + n)) for n in range(25)])
            for base in (0, 100, 200, 300)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert delivery.left == 100

    assert len(set((tmp_path / "eve.json").read_text().splitlines())) == 100
