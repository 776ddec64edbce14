"""What tests of the bridge share: numbered alerts, somebody who publishes, a bridge stepped until it is done."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from agent.bridging.bridge import Bridge
from agent.bridging.seen import Seen
from agent.bridging.targets import FileTarget, Target
from agent.delivery import MqttSettings
from contracts.alert import Alert, uuid7
from tests.alerts import T0_US, alerts_so_far, make_alert
from tests.broker import PATIENCE_S


def numbered(number: int, **changes: object) -> Alert:
    """Return an alert whose id is its own, as each of an agent's is."""
    return make_alert(number, alert_id=uuid7(T0_US + number * 1_000, number.to_bytes(8, "big")), **changes)


def ids(path: Path) -> list[str]:
    """Return the ids of the alerts in a file, each line of which must be whole."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line)["alert"]["context"]["penstock"]["alert_id"] for line in lines]


def ids_so_far(path: Path) -> list[str]:
    """Return the ids of the alerts in a file that somebody is writing."""
    return [alert["alert"]["context"]["penstock"]["alert_id"] for alert in alerts_so_far(path)]


def settings_of(port: int, *, connect_timeout_s: float = 30.0, **options: object) -> MqttSettings:
    """Return how the bridge under test reaches a broker on the loopback."""
    client_id = "siem-1"
    made = MqttSettings.from_url(
        f"mqtt://127.0.0.1:{port}", gateway=client_id, client_id=client_id, max_backoff_s=0.3, **options
    )
    return replace(made, connect_timeout_s=connect_timeout_s)


class Crank:
    """A bridge in this process, stepped by hand."""

    def __init__(
        self,
        port: int,
        target: Target | Path,
        *,
        gateways: tuple[str, ...] = (),
        connect_timeout_s: float = 30.0,
        **sizes: int,
    ) -> None:
        seen = Seen()
        if isinstance(target, Path):
            target = FileTarget(target, **{"rotate_bytes": 0, "keep_files": 5, **sizes}, seen=seen)
        settings = settings_of(port, connect_timeout_s=connect_timeout_s)
        self.bridge = Bridge(settings, target, gateways=gateways, seen=seen, expiry_s=3600)

    def until(self, is_done: Callable[[], bool]) -> None:
        """Step until this holds."""
        deadline_s = time.monotonic() + PATIENCE_S
        while not is_done():
            assert time.monotonic() < deadline_s, f"{self.bridge.counts}; {self.bridge.reason}"
            self.bridge.step()

    def __enter__(self) -> Crank:
        self.until(lambda: self.bridge.is_subscribed)
        return self

    def __exit__(self, *_: object) -> None:
        self.bridge.close()

    @property
    def heard(self) -> int:
        """How many messages are done with."""
        counts = self.bridge.counts
        return counts.written + counts.repeated + counts.refused.total()


@contextlib.contextmanager
def publisher(port: int) -> Iterator[Callable[..., None]]:
    """Give a function that publishes octets on a topic and returns when the broker has them."""
    client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
    client.connect("127.0.0.1", port)
    client.loop_start()

    def publish(topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> None:
        client.publish(topic, payload, qos=qos, retain=retain).wait_for_publish(PATIENCE_S)

    try:
        yield publish
    finally:
        client.disconnect()
        client.loop_stop()
