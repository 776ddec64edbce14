"""Two aggregators' processes as on two machines: a folder each, one PostgreSQL server, which crashes in mid-round.

A real broker deals updates out to them; gateways are keys that say their update again until it is counted.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from contracts.trust import read_public_key
from contracts.update import UpdateHeader, pack_update, read_call
from exporter.sign import make_key
from federation.aggregator.ledger import Ledger, LedgerError
from federation.aggregator.program import main
from tests.broker import Broker
from tests.federation import homes
from tests.federation.homes import DEMO, FLEET
from tests.federation.postgres import Cluster
from tests.federation.test_rounds import KEYS, NAMES
from training.variants import Variant, make_variant

pytestmark = [pytest.mark.needs_broker, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 300.0  # a guard against hanging
SETTINGS = """
[fleet]
name = "{fleet}"
[broker]
url = "mqtt://127.0.0.1:{port}"
[keys]
calls = "{keys}/calls.pem"
bundles = "{keys}/bundles.pem"
[windows]
teaching = ["{teaching}"]
judging = ["{judging}"]
[rounds]
is_automatic = false
[rollout]
is_automatic = false
[worker]
name = "{name}"
share = "workers"
state_dir = "{folder}"
store = "{store}"
[metrics]
is_enabled = false
"""


class Machine:
    """A folder, settings, and at times a process."""

    def __init__(self, name: str, folder: Path, **told: object) -> None:
        self.folder, self.log = folder / name, folder / f"{name}.log"
        self.config = folder / f"{name}.toml"
        self.config.write_text(SETTINGS.format(name=name, folder=self.folder, fleet=FLEET, **told))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "federation.aggregator.program", "run", "--config", str(self.config)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)

    def end(self, number: int) -> int:
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(120)

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None


@contextlib.contextmanager
def gateways(port: int) -> Iterator[Callable[[str, bytes], None]]:
    client = Client(CallbackAPIVersion.VERSION2, client_id="gateways", protocol=MQTTProtocolVersion.MQTTv5)
    client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        yield lambda name, message: client.publish(f"penstock/v1/{name}/update/1", message, qos=1).wait_for_publish(30)
    finally:
        client.disconnect()
        client.loop_stop()


def test_two_machines_on_one_server_that_crashes_count_every_update_once(
    own_cluster: Cluster, broker: Callable[..., Broker], tmp_path: Path
):
    port, store = broker().start().port, own_cluster.new_store()
    for name in ("calls", "bundles"):
        make_key(tmp_path / f"{name}.pem")
    (truth,) = homes.ground_truth.load(DEMO)
    judging = make_variant(truth, Variant("slower", pace=1.3), folder=tmp_path / "captures").path.parent
    told = {"port": port, "keys": tmp_path, "teaching": DEMO, "judging": judging / "ground_truth.json", "store": store}
    first, second = (Machine(name, tmp_path, **told) for name in ("first", "second"))
    for name in NAMES:
        key = tmp_path / f"{name}.pub"
        key.write_bytes(KEYS[name].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        key.chmod(0o644)
        assert main(["enrol", name, str(key), "--config", str(first.config)]) == 0
    assert main(["open", "--config", str(second.config)]) == 0
    ledger = Ledger(store)
    updates = made_for(ledger, read_public_key(tmp_path / "calls.pem.pub"))

    def counted() -> int:
        with contextlib.suppress(LedgerError):
            return ledger.counters().get("accepted", 0)
        return 0

    def keep_saying(names: tuple[str, ...], post: Callable[[str, bytes], None]) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while counted() < len(names):
            assert time.monotonic() < deadline_s, first.log.read_text() + second.log.read_text()
            for name in names:
                post(name, updates[name])
            time.sleep(0.5)

    try:
        first.start()
        second.start()
        with gateways(port) as post:
            keep_saying(NAMES[:2], post)
            own_cluster.crash()
            for name in NAMES[:4]:
                post(name, updates[name])
            first.end(signal.SIGKILL)
            until(lambda: "cannot be " in second.log.read_text(), what=second.log)
            assert second.is_running()
            own_cluster.start()
            first.start()
            keep_saying(NAMES, post)
        until(lambda: ledger.row("SELECT 1 FROM rounds WHERE state <> 'open'") is not None, what=second.log)
        end = second.end(signal.SIGTERM)  # the first one may be starting still
    finally:
        for machine in (first, second):
            if machine.is_running():
                machine.end(signal.SIGKILL)

    entries = ledger.audit()
    taken = sorted(entry["gateway"] for entry in entries if entry["what"] == "accepted")
    assert taken == sorted(NAMES)
    assert ledger.counters()["accepted"] == 5
    assert ledger.row("SELECT count(*) FROM updates") == (5,)
    assert [entry["round"] for entry in entries if entry["what"] == "aggregated"] == [1]
    assert end == 0


def made_for(ledger: Ledger, key) -> dict[str, bytes]:
    """Return an update of each gateway to the open round."""
    call = read_call(bytes(ledger.row("SELECT call FROM rounds")[0]), [key])
    made = {}
    for name in NAMES:
        header = UpdateHeader(
            fleet=FLEET, round=1, gateway=name, call_sha256=call.sha256, examples=500, made_us=time.time_ns() // 1000
        )
        made[name] = pack_update(header, np.ones(call.header.kept, np.int8), KEYS[name])
    return made


def until(is_so: Callable[[], bool], *, what: Path) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline_s, what.read_text()
        time.sleep(0.1)
