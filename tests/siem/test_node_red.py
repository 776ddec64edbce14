"""Node-RED runs the flow of deploy/ and hears our alerts over MQTT 5.

Consumed: messages of `agent.delivery` through a real mosquitto, by Node-RED's own `mqtt in` node.
"""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest

from agent.delivery import Delivery, MqttSettings
from contracts.eve import render_eve
from tests.alerts import alerts_so_far
from tests.bridging.messages import numbered, publisher
from tests.broker import PATIENCE_S
from tests.siem.node_red import LONG_S, NodeRed, NoNodeRed, find_node_red

FLOW = Path(__file__).resolve().parents[2] / "deploy" / "siem" / "node-red" / "flow.json"
TOPIC = "penstock/v1/replay/alert/brute_force"


def flow(port: int, said: Path) -> list[dict[str, object]]:
    """Return the sample with the broker's port, and with a file at each of its two ends."""
    nodes = {each["id"]: each for each in json.loads(FLOW.read_text())}
    nodes["penstock.broker"]["port"] = str(port)
    ends = []
    for name, node in (("severe", 0), ("rest", 1)):
        write = {"id": f"{name}.file", "type": "file", "z": "penstock.tab", "filename": f"{said}.{name}"}
        write |= {"filenameType": "str", "appendNewline": True, "createDir": False, "overwriteFile": "false"}
        form = {"id": f"{name}.form", "type": "json", "z": "penstock.tab", "property": "payload", "action": "str"}
        ends += [{**form, "pretty": False, "wires": [[f"{name}.file"]]}, {**write, "encoding": "utf8", "wires": [[]]}]
        nodes["penstock.severe"]["wires"][node].append(f"{name}.form")
    return [*nodes.values(), *ends]


def lines(path: Path, count: int) -> list[dict]:
    """Return the lines of a file once it has so many."""
    deadline_s = time.monotonic() + LONG_S
    while len(found := alerts_so_far(path)) < count:
        assert time.monotonic() < deadline_s, path
        time.sleep(0.1)
    return found


@pytest.mark.slow
@pytest.mark.needs_broker
def test_the_flow_hears_each_alert_once_and_parts_them_by_severity(broker, tmp_path):
    try:
        find_node_red()
    except NoNodeRed as exc:
        pytest.skip(str(exc))
    running = broker("log_type all").start()
    said = tmp_path / "said"

    with NodeRed(tmp_path / "node-red", flow(running.port, said)) as red:
        red.until_said("Connected to broker")
        settings = MqttSettings.from_url(f"mqtt://127.0.0.1:{running.port}", gateway="replay")
        with Delivery(mqtt=settings) as delivery:
            for number in range(20):
                delivery.publish(numbered(number, severity=2 if number % 2 else 3))
            assert delivery.drain(PATIENCE_S) == 0
        with publisher(running.port) as publish:
            publish(TOPIC, render_eve(numbered(1)).encode())  # comes again
            publish(TOPIC, b"{}")
            publish(TOPIC, render_eve(numbered(21)).encode())
        severe, rest = lines(Path(f"{said}.severe"), 11), lines(Path(f"{said}.rest"), 10)

    known = [json.loads(render_eve(numbered(number))) for number in range(22)]
    assert [each["flow_id"] for each in severe] == [known[number]["flow_id"] for number in [*range(1, 20, 2), 21]]
    assert [each["flow_id"] for each in rest] == [known[number]["flow_id"] for number in range(0, 20, 2)]
    assert severe[-1] == known[21]
    log = (running.folder / "mosquitto.log").read_text()
    assert re.search(r"as node-red-penstock \(p5, c0, k60\)", log), "MQTT 5, and a session that is kept"


def test_the_flow_holds_together_without_node_red():
    nodes = {each["id"]: each for each in json.loads(FLOW.read_text())}
    wired = {target for each in nodes.values() for wires in each.get("wires", []) for target in wires}

    assert wired <= nodes.keys()
    assert nodes["penstock.alerts"]["broker"] in nodes
    assert nodes["penstock.alerts"]["topic"] == "penstock/v1/+/alert/+"
    assert (nodes["penstock.broker"]["protocolVersion"], nodes["penstock.alerts"]["qos"]) == ("5", "1")
    line = json.loads(render_eve(numbered(0)))
    for path in re.findall(r"(?:said|ours|msg\.payload)((?:\.\w+)+)", nodes["penstock.once"]["func"]):
        places = [line, line["alert"], line["alert"]["context"]["penstock"]]
        assert any(path.split(".")[1] in place for place in places), path
