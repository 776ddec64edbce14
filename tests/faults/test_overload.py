"""More packets than the agent can carry, and an attack among them."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from tests.broker import Subscriber
from tests.capture.wire import Wire
from tests.faults.figures import IS_TIMED, Figures, times
from tests.faults.limits import Group, limited
from tests.faults.running import play, running, scan_of, signed_bundle, victim
from tests.faults.sending import Flood

NOT_ALL_DELIVERED = 69  # the last messages of many incidents may still wait in the outbox after a farewell's second

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_broker, pytest.mark.slow]

CORES = 0.1  # a tenth of a core stands in for a small board: what overloads it can be sent from here
SATURATING, SATURATING_PER_S = 300_000, 150_000
PORTS, SCAN_S = 200, 10.0  # a scan goes on for so long, or until it is told
ATTACK_S = 4.0  # of overload for each attack
FOUND_S = 5.0
GIVEN_UP_S = 30.0


def capacity_per_s(wire: Wire, group: Group, *, folder: Path, bundle: Path) -> float:
    """Return how many packets of this traffic the agent carries in a second with its share of a core, when it is full.

    From what it metered of far too much and the CPU seconds that took; what it shed meanwhile counts against it.
    """
    with running(folder=folder, bundle=bundle, group=group) as agent:
        before_s = agent.cpu_s()
        with Flood(wire.far, kind="busy", packets=SATURATING, rate_per_s=SATURATING_PER_S) as flood:
            flood.sent()
        used_s, is_full = agent.cpu_s(), True
        while is_full:
            time.sleep(0.5)
            now_s = agent.cpu_s()
            is_full, used_s = now_s - used_s > 0.3 * CORES, now_s
        time.sleep(1.5)  # facts are of the last second
        metered = agent.facts()["flows"]["metered"]
        agent.stop()
    return metered / (used_s - before_s) * CORES


@pytest.mark.parametrize("factor", [2, 5])
def test_an_attack_is_found_among_more_than_can_be_carried(
    wire: Wire, broker, tmp_path: Path, figures: Figures, factor: int
):
    attacks = times(2, long=30)
    port = broker().start().port
    bundle = signed_bundle(tmp_path / "bundle")

    with limited(cores=CORES) as group:
        can_per_s = capacity_per_s(wire, group, folder=tmp_path, bundle=bundle)
    with (
        limited(cores=CORES) as group,
        Subscriber(port).listening() as subscriber,
        running("--mqtt", f"mqtt://127.0.0.1:{port}", folder=tmp_path, bundle=bundle, group=group) as agent,
    ):
        rate_per_s, sent = round(factor * can_per_s), 0
        packets = round(rate_per_s * (5 + ATTACK_S * attacks))
        with Flood(wire.far, kind="busy", packets=packets, rate_per_s=rate_per_s) as flood:
            time.sleep(3.0)
            began: dict[str, float] = {}
            heard: dict[str, float] = {}

            def attack() -> None:
                nonlocal sent
                for number in range(attacks):
                    address = victim(number)
                    frames = scan_of(address, ports=PORTS, every_s=SCAN_S / PORTS)
                    began[address] = time.monotonic()
                    _, count = play(wire, frames, stop=lambda: address in heard)  # noqa: B023
                    sent += count
                    time.sleep(0.2)

            thread = threading.Thread(target=attack)
            thread.start()
            until_s = time.monotonic() + 3 * SCAN_S * attacks + GIVEN_UP_S
            while len(heard) < attacks and time.monotonic() < until_s:
                _hear(subscriber, heard, attacks)
            thread.join()
            was_loaded = not flood.is_over()
            flooded = flood.sent()
            sent += int(flooded["sent"])
        time.sleep(4.0)  # what stands in the ring is read, and told
        facts = agent.facts()
        counts = agent.stop()

    found_s = sorted(heard.get(address, began[address] + GIVEN_UP_S) - began[address] for address in began)
    p95_s = found_s[max(0, -(-95 * len(found_s) // 100) - 1)]
    figures.told(
        fault=f"{factor} x overload of {CORES:g} of a core",
        goal="p95 time to detect < 5 s for a concurrent attack, accounting exact",
        can_carry_kpps=can_per_s / 1000,
        sent_kpps=flooded["rate_per_s"] / 1000,
        attacks=attacks,
        missed=attacks - len(heard),
        p95_to_detect_s=p95_s,
        median_to_detect_s=found_s[len(found_s) // 2],
        sent=sent,
        seen=counts.seen,
        dropped=counts.dropped,
        shed_packets=facts["flows"]["shed_packets"],
        metered=facts["flows"]["metered"],
        windows_shed=facts["windows"]["shed"],
        still_loaded_when_the_last_was_found="yes" if was_loaded else "no",
    )
    assert agent.process.returncode in (0, NOT_ALL_DELIVERED)
    assert (counts.seen, counts.read + counts.dropped, counts.uneven) == (sent, sent, 0)
    assert facts["flows"]["decoded"] == facts["flows"]["metered"] + facts["flows"]["shed_packets"]
    assert facts["windows"]["due"] == sum(facts["windows"][name] for name in ("scored", "shed", "waiting"))
    if IS_TIMED:
        assert len(heard) == attacks
        assert p95_s < FOUND_S


def _hear(subscriber: Subscriber, heard: dict[str, float], attacks: int) -> None:
    """Note when each victim was first named."""
    if subscriber.heard.empty():
        time.sleep(0.01)
        return
    message, now_s = subscriber.heard.get(), time.monotonic()
    for number in range(attacks):
        if "/alert/scan" in message.topic and f'"{victim(number)}"'.encode() in message.payload:
            heard.setdefault(victim(number), now_s)
