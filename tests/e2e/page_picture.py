"""The picture in docs/page.md: a real agent on a wire that carries the demo's capture, as headless Chromium shows it.

    sudo .venv/bin/python -m tests.e2e.page_picture docs/page.png

Takes two minutes, since the capture is sent as fast as it was recorded. Wants root, a Chromium, a mosquitto and Pillow.
"""

from __future__ import annotations

import io
import ipaddress
import json
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from lab.namespaces import entered
from tests.broker import Broker
from tests.capture.wire import Wire, laid
from tests.chromium import browsing
from tests.conftest import ROOT
from tests.devices.said import announced
from tests.e2e.conftest import environment

DEMO = ROOT / "lab" / "demo"
PORT = 9744
SIZE, SCALE, COLOURS = (1200, 1000), 1.4, 160
RARE = ("#2b6b4a", "#17667d", "#7f5300", "#a8261a")
SETTINGS = """
[gateway]
id = "cellar"
state_dir = "{folder}/state"
[capture]
interfaces = ["eth0"]
home_nets = ["172.29.251.0/24"]
[eve]
path = "{folder}/eve.json"
[mqtt]
url = "mqtt://127.0.0.1:{broker}"
[metrics]
listen = "127.0.0.1:{port}"
page = true
[status]
enabled = false
"""


def frames() -> Iterator[tuple[float, bytes]]:
    """Give the capture's frames, each with its time in seconds (little-endian pcap with microseconds)."""
    octets, at = (DEMO / "capture.pcap").read_bytes(), 24
    while at < len(octets):
        seconds, micros, kept, _ = struct.unpack_from("<IIII", octets, at)
        yield seconds + micros / 1e6, octets[at + 16 : at + 16 + kept]
        at += 16 + kept


def introductions() -> list[bytes]:
    """Return frames in which the lab's devices say their names, as its recording has none."""
    names = {
        address: name for name, address in json.loads((DEMO / "ground_truth.json").read_text())[0]["devices"].items()
    }
    macs = {}
    for _, frame in frames():
        if frame[12:14] == b"\x08\x00":
            macs.setdefault(str(ipaddress.ip_address(frame[26:30])), frame[6:12].hex(":"))
    return [announced(macs[address], address, name) for address, name in names.items() if address in macs]


def send(wire: Wire) -> None:
    """Send the capture, at the pace it was recorded at."""
    wire.send(introductions())
    began_s, first_s = time.monotonic(), next(frames())[0]
    with wire.sender() as sock:
        for at_s, frame in frames():
            if (ahead_s := at_s - first_s - (time.monotonic() - began_s)) > 0:
                time.sleep(ahead_s)
            sock.send(frame)


def take(path: Path) -> None:
    """Write the picture."""
    from PIL import Image

    with tempfile.TemporaryDirectory() as name, laid() as wire, entered(wire.near):
        folder = Path(name)
        (folder / "broker").mkdir()
        broker = Broker(folder / "broker").start()
        config = folder / "agent.toml"
        config.write_text(SETTINGS.format(folder=folder, broker=broker.port, port=PORT))
        command = [sys.executable, "-m", "agent.cli", "run", "--config", config.name]
        with subprocess.Popen(command, cwd=folder, env=environment(), stderr=subprocess.PIPE, text=True) as agent:
            assert agent.stderr is not None
            try:
                while "watching eth0" not in (line := agent.stderr.readline()):
                    assert line, "the agent ended"
                with browsing(folder / "browser", within=lambda: entered(wire.near)) as tab:
                    tab.resize(*SIZE, scale=SCALE)
                    tab.prefer("light")
                    send(wire)
                    tab.open(f"http://127.0.0.1:{PORT}/")
                    tab.until("document.querySelectorAll('.incident').length > 2")
                    time.sleep(3)
                    picture = tab.picture()
            finally:
                agent.terminate()
                broker.stop()
    small = io.BytesIO()
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    swatches = image.copy()  # a colour that stands in a few dots only would not get a place in the palette
    for n, colour in enumerate(RARE):
        swatches.paste(colour, (n * 90, 0, n * 90 + 90, 90))
    palette = swatches.quantize(COLOURS)
    image.quantize(palette=palette, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
    path.write_bytes(small.getvalue())
    print(f"{path}: {image.width} x {image.height}, {len(small.getvalue()):,} octets")


if __name__ == "__main__":
    take(Path(sys.argv[1]))
