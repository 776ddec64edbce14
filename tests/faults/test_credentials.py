"""The broker stops taking the agent's password, and takes it again later."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.alerts import alerts_so_far
from tests.broker import Subscriber
from tests.capture.wire import Wire
from tests.faults.figures import Figures, times
from tests.faults.running import LASTING_RING, ids_heard, outboxed, play, running, scan_of, signed_bundle, victim

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_broker, pytest.mark.slow]


def test_alerts_wait_while_credentials_are_revoked_and_leave_once_they_are_restored(
    wire: Wire, broker, tmp_path: Path, figures: Figures
):
    attacks = times(5, long=40)
    bundle, outbox, password = signed_bundle(tmp_path / "bundle"), tmp_path / "outbox.db", tmp_path / "password"
    password.write_text("right\n")
    password.chmod(0o600)
    guarded = broker("allow_anonymous true", "password_file passwords")
    guarded.password_file("cellar", "right")
    guarded.start()
    arguments = ("--mqtt", f"mqtt://cellar@127.0.0.1:{guarded.port}", "--mqtt-password-file", password)

    arguments += ("--outbox", outbox, "--eve", "eve.json")

    with running(*arguments, folder=tmp_path, bundle=bundle, variables=LASTING_RING) as agent:
        with Subscriber(guarded.port).listening() as subscriber:
            subscriber.availability("online")
        guarded.stop()
        guarded.password_file("cellar", "another")
        guarded.start()
        for number in range(attacks):
            play(wire, scan_of(victim(number)))
        _wait_for_lines(tmp_path / "eve.json", attacks)
        written = _ids(tmp_path / "eve.json")
        with Subscriber(guarded.port).listening() as subscriber:
            time.sleep(0.5)
            early = subscriber.heard.qsize()
        guarded.stop()
        guarded.password_file("cellar", "right")
        guarded.start()
        restored_s = time.monotonic()
        with Subscriber(guarded.port).listening() as subscriber:
            heard = ids_heard(subscriber, written)
        took_s = time.monotonic() - restored_s
        agent.stop()

    figures.told(
        fault="credentials revoked and restored",
        goal="0 lost, no restart",
        alerts_made_meanwhile=len(written),
        heard_before_they_were_restored=early,
        lost=len(written - set(heard)),
        all_delivered_after_s=took_s,
        left_in_the_outbox=len(outboxed(outbox)),
    )
    assert early == 0
    assert written <= set(heard)


def _ids(path: Path) -> set[str]:
    return {alert["alert"]["context"]["penstock"]["alert_id"] for alert in alerts_so_far(path)}


def _wait_for_lines(path: Path, count: int) -> None:
    until_s = time.monotonic() + 120
    while not path.exists() or path.read_bytes().count(b"\n") < count:
        assert time.monotonic() < until_s, f"{path} never had {count} lines"
        time.sleep(0.02)
