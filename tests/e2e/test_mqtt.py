"""From a capture to a subscriber of a real broker: exactly the alerts of eve.json, whenever the broker came."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from tests.broker import Door, Subscriber
from tests.e2e.conftest import TIMEOUT_S, Run, environment

pytestmark = pytest.mark.needs_broker


def payloads(subscriber: Subscriber, count: int) -> list[bytes]:
    messages = subscriber.next_alerts(count)
    assert {message.qos for message in messages} == {1}
    return sorted(message.payload for message in messages)


def lines_of(path: Path) -> list[bytes]:
    return sorted(path.read_bytes().splitlines())


def test_a_subscriber_receives_exactly_the_alerts_of_eve_json(
    penstock: Run, broker, capture: Path, bundle: Path, tmp_path: Path
):
    running = broker().start()
    url = f"mqtt://127.0.0.1:{running.port}"

    with Subscriber(running.port).listening() as subscriber:
        done = penstock(
            "replay", capture, "--bundle", bundle, "--eve", "eve.json", "--mqtt", url, "--gateway", "cellar"
        )
        expected = lines_of(tmp_path / "eve.json")
        received = payloads(subscriber, len(expected))
        subscriber.availability("offline")

    assert (done.returncode, done.stderr) == (0, "")
    assert received == expected != []
    assert subscriber.heard.empty(), "and nothing more"


def test_with_the_broker_reachable_only_after_the_replay_began_still_all_of_them(
    command: list[str], broker, capture: Path, bundle: Path, tmp_path: Path
):
    running = broker().start()
    door = Door(to_port=running.port)
    arguments = ["--mqtt", f"mqtt://127.0.0.1:{door.port}", "--eve", "eve.json", "--mqtt-wait", "30"]

    with Subscriber(running.port).listening() as subscriber:
        process = subprocess.Popen(
            [*command, "replay", str(capture), "--bundle", str(bundle), *arguments],
            cwd=tmp_path,
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        wait_for_lines(tmp_path / "eve.json", 2)
        door.open()
        _, errors = process.communicate(timeout=TIMEOUT_S)
        expected = lines_of(tmp_path / "eve.json")
        received = payloads(subscriber, len(expected))
    door.shut()

    assert (process.returncode, errors) == (0, "")
    assert received == expected != []


def wait_for_lines(path: Path, count: int) -> None:
    """Return when a file another process writes has that many lines."""
    deadline_s = time.monotonic() + TIMEOUT_S
    while not path.exists() or path.read_bytes().count(b"\n") < count:
        assert time.monotonic() < deadline_s, f"{path} never had {count} lines"
        time.sleep(0.02)


def test_a_broker_that_refuses_is_said_and_the_replay_is_reported(
    penstock: Run, broker, capture: Path, bundle: Path, tmp_path: Path
):
    guarded = broker("allow_anonymous false").start()
    url = f"mqtt://127.0.0.1:{guarded.port}"

    done = penstock("replay", capture, "--bundle", bundle, "--mqtt", url, "--outbox", "o.db", "--eve", "eve.json")

    said = f"penstock: mqtt: refused by 127.0.0.1:{guarded.port}: Not authorized; alerts are kept in o.db\n"
    assert done.stderr == said
    assert "2 alerts undelivered, kept in o.db" in done.stdout
    assert "1 incident, 2 alerts" in done.stdout
    assert done.returncode == 69
    assert len(lines_of(tmp_path / "eve.json")) == 2


def test_what_was_left_in_an_outbox_goes_out_with_the_next_replay(
    penstock: Run, broker, capture: Path, bundle: Path, tmp_path: Path
):
    running = broker().start()
    door = Door(to_port=running.port)  # shut
    arguments = ["replay", capture, "--bundle", bundle, "--outbox", "o.db"]

    first = penstock(*arguments, "--mqtt", f"mqtt://127.0.0.1:{door.port}", "--mqtt-wait", "0.2", "--gateway", "one")
    with Subscriber(running.port).listening() as subscriber:
        second = penstock(*arguments, "--mqtt", f"mqtt://127.0.0.1:{running.port}", "--gateway", "two")
        messages = subscriber.next_alerts(4)

    assert (first.returncode, second.returncode) == (69, 0)
    assert sorted(message.topic.split("/")[2] for message in messages) == ["one", "one", "two", "two"]
