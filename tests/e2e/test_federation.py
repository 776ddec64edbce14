"""The agent in a fleet, with a real broker: a call becomes one update, a kill loses nothing, a bundle serves."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from contracts.agent_card import read_card, wanted
from contracts.bundle import Bundle, load_bundle
from contracts.classes import NAMES
from contracts.rollout import OrderHeader, pack_archive, pack_order
from contracts.samples import DAY_US, SAMPLES_FILE, Sample, SampleBook
from flowfeatures import address_bytes
from tests.broker import Broker, Door, Subscriber
from tests.bundles import sign, write_refusal_bundle
from tests.capture.wire import Wire
from tests.e2e.conftest import TIMEOUT_S, environment
from tests.e2e.scan import CAMERA, PHONE
from tests.e2e.test_service import RING, Home, chat, scan_until, until
from tests.federation import homes

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_broker]

KEY = Ed25519PrivateKey.generate()
ALARM = homes.TRUE_ALARM
UPDATE, LAST = "penstock/v1/cellar/update/1", "penstock/v1/nobody/last"
ROUND, ANCHORS = "penstock/v1/fleet/homes/round", "penstock/v1/fleet/homes/anchors"


class Gateway(Home):
    """A home whose agent takes part in a fleet, and its broker behind a door that can be shut."""

    def __init__(self, folder: Path, command: list[str], broker: Broker) -> None:
        super().__init__(folder, command)
        self.broker = broker
        self.state = folder / "state"
        self.door = Door(to_port=broker.port)
        self.door.open()
        homes.trust(folder / "aggregators.d", KEY)

    def enlist(self, *, bundle: Path | None = None) -> None:
        """Write agent.toml with federation on; the shipped bundle serves unless another is named."""
        scoring = f'bundle = "{bundle}"\n' if bundle is not None else ""
        self.config.write_text(
            f'[gateway]\nid = "cellar"\nstate_dir = "{self.state}"\n'
            f'[capture]\ninterfaces = ["eth0"]\nhome_nets = ["192.168.1.0/24"]\n{RING}'
            f'[scoring]\n{scoring}trust_dir = "{self.trust}"\nshadow_windows = 0\n'
            f'[eve]\npath = "{self.folder}/eve.json"\n'
            f'[mqtt]\nurl = "mqtt://127.0.0.1:{self.door.port}"\nreconnect_max_s = 1.0\n'
            f'[metrics]\nenabled = false\n[status]\nsocket = "{self.folder}/status.sock"\n'
            f'[federation]\nenabled = true\nfleet = "homes"\naggregators_dir = "{self.folder}/aggregators.d"\n'
        )

    def fill(self) -> None:
        """Keep what an agent keeps in days: aged quiet windows, and those of an attack that was judged to be one."""
        now_us = time.time_ns() // 1000
        self.state.mkdir(exist_ok=True)
        calm, alarm = homes.benign(), homes.attacks("flood")
        with SampleBook(self.state / SAMPLES_FILE, write=True) as book:
            for place in range(len(calm)):
                book.add(_sample(calm, place, due_us=now_us - 2 * DAY_US - place * 600_000_000))
            for place in range(len(alarm)):
                book.add(_sample(alarm, place, due_us=now_us - 3_600_000_000 + place, incident_id=ALARM))
        rules = {"format": 1, "mutes": [], "benign": [], "verdicts": {ALARM: "malicious"}}
        (self.state / "rules.json").write_text(json.dumps(rules))

    def finetune(self) -> dict:
        """Run the trainer as its unit does, but at once; return its report."""
        done = subprocess.run(
            [sys.executable, "-m", "federation.gateway.program", "--state-dir", str(self.state), "--now", "--json"],
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_S,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def kill(self) -> None:
        """End the agent as a power cut would."""
        self.process.kill()
        self.process.wait(TIMEOUT_S)

    def left(self) -> list[str]:
        """Return what waits to be sent, on the way to the outbox."""
        folder = self.state / "federation"
        return [path.name for name in ("out", "sending") for path in sorted((folder / name).glob("[0-9]*"))]

    def leaving(self) -> set[bytes]:
        """Return the updates that wait to be sent; one may be taken from under our eyes."""
        found = set()
        for name in ("out", "sending"):
            for path in (self.state / "federation" / name).glob("*.update"):
                with contextlib.suppress(FileNotFoundError):
                    found.add(path.read_bytes())
        return found

    def has_delivered(self) -> bool:
        """Return whether the broker has acknowledged all that was to be sent."""
        if self.left():
            return False
        with contextlib.closing(sqlite3.connect(f"file:{self.state}/outbox.db?mode=ro", uri=True)) as outbox:
            return outbox.execute("SELECT count(*) FROM alerts").fetchone() == (0,)

    def connected(self) -> None:
        """Return when the broker has accepted the agent."""
        until(lambda: self.facts()["delivery"]["broker_state"] == "connected")

    def called(self) -> None:
        """Return when call and anchors lie there, whichever came first, and the trainer is asked for."""
        until(lambda: list((self.state / "federation" / "in").glob("*.anchors")) and wanted(self.state) == {"call"})


def _sample(windows: homes.Windows, place: int, *, due_us: int, incident_id: str | None = None) -> Sample:
    return Sample(
        device=windows.device[place].tobytes(),
        due_us=due_us,
        rows=windows.values[place, : windows.lengths[place]],
        margin=float(windows.margin[place]),
        incident_id=incident_id,
        class_index=0 if incident_id is None else NAMES.index("flood"),
    )


@pytest.fixture
def broker(wire: Wire, tmp_path: Path) -> Iterator[Broker]:
    folder = tmp_path / "broker"
    folder.mkdir()
    made = Broker(folder).start()
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture
def gateway(wire: Wire, command: list[str], tmp_path: Path, broker: Broker) -> Iterator[Gateway]:
    """A gateway at the near end of the wire; its agent does not outlive the test."""
    made = Gateway(tmp_path, command, broker)
    made.enlist()
    try:
        yield made
    finally:
        made.manager.close()
        made.door.shut()
        if made.process is not None:
            made.process.kill()
            made.process.wait()


def publish(broker: Broker, topic: str, payload: bytes) -> None:
    """Publish a retained message, and wait until the broker has it."""
    client = Client(CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    client.publish(topic, payload, qos=1, retain=True).wait_for_publish(TIMEOUT_S)
    client.disconnect()
    client.loop_stop()


def open_round(broker: Broker) -> None:
    """Put a signed call and its anchors on the broker."""
    from tests.federation.test_gateway import anchors  # builds them from the demo's windows

    now_us, head = time.time_ns() // 1000, homes.read_head(homes.bundle().model)
    told = homes.pack_call(
        homes.call_header(kept=head.flat.size, opened_us=now_us - 1, deadline_us=now_us + DAY_US),
        head,
        KEY,
    )
    sha256 = homes.bundle().manifest_sha256
    publish(broker, ANCHORS, _pack_anchors(anchors(), fleet="homes", bundle_sha256=sha256, key=KEY))
    publish(broker, ROUND, told)


def _pack_anchors(*given: object, **named: object) -> bytes:
    from contracts.anchors import pack_anchors

    return pack_anchors(*given, **named)


@contextlib.contextmanager
def ear(broker: Broker) -> Iterator[Subscriber]:
    with Subscriber(broker.port).listening() as heard:
        yield heard


def updates(gateway: Gateway, broker: Broker, heard: Subscriber) -> list[bytes]:
    """Return the updates heard by when nothing of the gateway's is on its way any more."""
    until(gateway.has_delivered)
    publish(broker, LAST, b"last")  # what the broker had before it comes before it
    found: list[bytes] = []
    while (message := heard.next()).topic != LAST:
        if message.topic == UPDATE:
            found.append(message.payload)
    return found


def test_a_call_on_the_broker_becomes_one_update_on_the_broker(gateway: Gateway, broker: Broker):
    gateway.fill()
    with ear(broker) as heard:
        gateway.start()
        gateway.connected()
        open_round(broker)
        gateway.called()

        report = gateway.finetune()

        assert (report["outcome"], report["round"]) == ("sent", 1), report
        (update,) = set(updates(gateway, broker, heard))
    assert wanted(gateway.state) == set()
    assert gateway.left() == []
    assert len(update) == report["update_bytes"]
    assert read_card(gateway.state).gateway == "cellar"
    assert _accepted(gateway, update) == "accepted"


def _accepted(gateway: Gateway, update: bytes) -> str:
    """Return what an aggregator says of an update that came from this gateway."""
    from contracts.signed import verify
    from contracts.update import check_answers, read_call, read_update
    from federation.gateway.identity import own_key

    (path,) = (gateway.state / "federation" / "in").glob("*.call")
    seen = read_update(update)
    check_answers(seen, read_call(path.read_bytes(), [KEY.public_key()]))
    return "accepted" if verify(seen.parts, own_key(gateway.state / "federation").public_key()) else "by another key"


def test_killed_before_a_round_between_and_after_it_nothing_is_lost_and_nothing_new_made(
    gateway: Gateway, broker: Broker
):
    gateway.fill()
    gateway.start()
    gateway.connected()
    gateway.kill()  # before the call: the broker keeps it
    open_round(broker)
    gateway.start()
    gateway.called()
    gateway.kill()  # with the call on disk: the trainer needs no agent
    gateway.finetune()
    assert gateway.left() == ["0000000001.update"]
    (made,) = (path.read_bytes() for path in (gateway.state / "federation" / "out").iterdir())
    gateway.door.shut()  # no broker: the update goes into the outbox, and the agent dies with it there
    gateway.start()
    until(lambda: gateway.left() == [])
    gateway.kill()
    gateway.door.open()

    with ear(broker) as heard:
        gateway.start()

        arrived = set(updates(gateway, broker, heard))

    assert arrived == {made}  # at least once: a connection that breaks has it sent again
    assert gateway.finetune()["why"] == "round 1 is answered"
    assert gateway.left() == []


def test_killed_while_an_update_is_handed_to_the_outbox_it_arrives_with_the_same_octets(
    gateway: Gateway, broker: Broker
):
    gateway.fill()
    open_round(broker)
    gateway.start()
    gateway.called()
    with ear(broker) as heard:
        gateway.finetune()
        made = gateway.leaving()  # none, where it is in the outbox already

        os.kill(gateway.process.pid, signal.SIGKILL)
        gateway.process.wait(TIMEOUT_S)
        gateway.start()
        arrived = set(updates(gateway, broker, heard))

    assert len(arrived) == 1
    assert made <= arrived
    assert gateway.left() == []


def test_what_is_watched_becomes_samples_of_incidents_and_of_quiet_devices(
    wire: Wire, gateway: Gateway, broker: Broker
):
    gateway.enlist(bundle=gateway.bundle)
    gateway.start()
    chat(wire)
    scan_until(wire, gateway.alerts)
    gateway.end()

    named = {alert["alert"]["context"]["penstock"]["incident_id"] for alert in gateway.alerts()}
    with SampleBook(gateway.state / SAMPLES_FILE) as book:
        now_us = time.time_ns() // 1000
        quiet = {each.device for each in book.read(pinned=False, before_us=now_us, limit=100)}
        assert book.incidents()
        assert book.incidents() <= named
    assert address_bytes(PHONE) in quiet
    assert address_bytes(CAMERA) not in quiet


def order(broker: Broker, bundle: Bundle, number: int) -> None:
    """Roll a bundle out to the gateway."""
    archive = pack_archive(bundle)
    header = OrderHeader(
        fleet="homes", gateway="cellar", number=number, release=bundle.manifest.release,
        bundle_sha256=bundle.manifest_sha256, archive_sha256=hashlib.sha256(archive).hexdigest(),
        archive_bytes=len(archive), is_rollback=False, issued_us=1,
    )  # fmt: skip
    publish(broker, f"penstock/v1/fleet/homes/bundle/{bundle.manifest_sha256}", archive)
    publish(broker, "penstock/v1/cellar/manifest", pack_order(header, KEY))


def told(heard: Subscriber, is_so: object) -> dict:
    """Return the first status in which the bundle is so."""
    while True:
        message = heard.next()
        if message.topic.endswith("/status") and is_so(status := json.loads(message.payload)):
            return status["bundle"]


def test_a_bundle_that_is_rolled_out_serves_and_says_so_and_an_unsigned_one_does_not(gateway: Gateway, broker: Broker):
    gateway.enlist(bundle=gateway.bundle)
    new = load_bundle(sign(write_refusal_bundle(gateway.folder / "new", release=1001), gateway.trust))
    forged = load_bundle(write_refusal_bundle(gateway.folder / "forged", release=1002))
    with ear(broker) as heard:
        gateway.start()
        gateway.connected()
        order(broker, new, 1)
        serving = told(heard, lambda status: status["bundle"]["release"] == 1001)
        assert serving["sha256"] == new.manifest_sha256

        order(broker, forged, 2)
        refused = told(heard, lambda status: status["bundle"].get("order", {}).get("number") == 2)

    assert refused["order"]["outcome"].startswith("refused:")
    assert refused["refused"] == [f"{1002:019d}-{forged.manifest_sha256[:16]}"]
    assert (refused["release"], refused["sha256"]) == (1001, new.manifest_sha256)
