"""A bundle whose bits flip, or whose end is missing: read at rest, and put in the place of the one that serves."""

from __future__ import annotations

import random
import shutil
import signal
import time
from pathlib import Path

import pytest

from contracts.bundle import MANIFEST, SIGNATURE, default_bundle, load_bundle, write_manifest
from contracts.errors import BundleError
from tests.broker import Subscriber
from tests.bundles import sign, write_refusal_bundle
from tests.capture.wire import Wire
from tests.faults.figures import Figures, times
from tests.faults.running import LASTING_RING, TRUST, play, running, scan_of, signed_bundle, victim

pytestmark = pytest.mark.slow


def signed_copy(folder: Path) -> Path:
    """Copy the shipped bundle as the next release, signed: for the shipped one the pin vouches, and no signature."""
    shipped = default_bundle()
    shutil.copytree(shipped.path, folder)
    write_manifest(folder, shipped.manifest.model_copy(update={"release": shipped.manifest.release + 1}))
    return sign(folder, folder.parent / TRUST)


def flip(path: Path, rng: random.Random) -> None:
    """Flip one bit of a file."""
    octets = bytearray(path.read_bytes())
    octets[rng.randrange(len(octets))] ^= 1 << rng.randrange(8)
    path.write_bytes(octets)


def cut(path: Path, rng: random.Random) -> None:
    """Cut a file short."""
    path.write_bytes(path.read_bytes()[: rng.randrange(path.stat().st_size)])


def test_every_flipped_and_every_truncated_bundle_is_refused(tmp_path: Path, figures: Figures):
    flips, cuts, rng = times(100, long=1_000), times(20, long=100), random.Random(1)
    bundle = signed_copy(tmp_path / "bundle")
    whole = {path: path.read_bytes() for path in sorted(bundle.iterdir())}
    taken, refused = [], 0
    assert load_bundle(bundle, trust=tmp_path / TRUST).signer == "bundle"

    for number in range(flips + cuts):
        path = rng.choice(list(whole))
        (flip if number < flips else cut)(path, rng)
        try:
            load_bundle(bundle, trust=tmp_path / TRUST)
            taken.append((number, path.name))
        except BundleError:
            refused += 1
        path.write_bytes(whole[path])

    figures.told(
        fault="bundle bit-flipped and truncated, read at rest",
        goal="all refused",
        flipped=flips,
        truncated=cuts,
        refused=refused,
        taken=len(taken),
    )
    assert load_bundle(bundle, trust=tmp_path / TRUST).signer == "bundle"
    assert taken == []


@pytest.mark.needs_root
@pytest.mark.needs_broker
def test_the_one_that_serves_goes_on_judging_while_damaged_ones_are_offered(
    wire: Wire, broker, tmp_path: Path, figures: Figures
):
    offers, rng, sent = times(6, long=100), random.Random(2), 0
    bundle = signed_bundle(tmp_path / "bundle")
    next_one = sign(write_refusal_bundle(tmp_path / "next", release=2), tmp_path / TRUST)
    parts = {name: (next_one / name).read_bytes() for name in (MANIFEST, SIGNATURE, "model.onnx")}
    port = broker().start().port
    config = tmp_path / "agent.toml"

    def ask_for(folder: Path) -> None:
        lines = ("[capture]", 'interfaces = ["eth0"]', "[scoring]", "shadow_windows = 0", f'bundle = "{folder}"')
        more = ("[gateway]", f'state_dir = "{tmp_path}/state"', "[metrics]", "enabled = false")
        status = ("[status]", f'socket = "{tmp_path}/status.sock"')
        config.write_text("\n".join([*lines, *more, *status]) + "\n")

    (tmp_path / "state").mkdir()
    ask_for(bundle)
    arguments = ("--config", config, "--mqtt", f"mqtt://127.0.0.1:{port}")
    variables = {"PENSTOCK_SCORING__TRUST_DIR": str(tmp_path / TRUST), **LASTING_RING}
    told = 0
    with (
        Subscriber(port).listening() as subscriber,
        running(*arguments, folder=tmp_path, variables=variables) as agent,
    ):
        for number in range(offers):
            name = rng.choice(list(parts))
            (flip if number % 3 else cut)(next_one / name, rng)
            ask_for(next_one)
            said = len(agent.lines)
            agent.process.send_signal(signal.SIGHUP)
            _wait_until(lambda said=said: any("refused" in line for line in agent.lines[said:]))
            sent += play(wire, scan_of(victim(number)))[1]
            told += _is_told(subscriber, victim(number))
            (next_one / name).write_bytes(parts[name])
        said = len(agent.lines)
        agent.process.send_signal(signal.SIGHUP)
        _wait_until(lambda: any("release 2 serves" in line for line in agent.lines[said:]))
        sent += play(wire, scan_of(victim(offers)))[1]
        told += _is_told(subscriber, victim(offers))
        counts = agent.stop()

    figures.told(
        fault="damaged bundles offered to a running agent",
        goal="all refused, the last good one serves",
        offered=offers,
        refused=sum("refused" in line for line in agent.lines),
        attacks=offers + 1,
        told=told,
        frames_sent=sent,
        read=counts.read,
        dropped=counts.dropped,
    )
    assert told == offers + 1
    assert (counts.read, counts.dropped, counts.uneven) == (sent, 0, 0)


def _is_told(subscriber: Subscriber, address: str) -> bool:
    """Return whether an alert names the device; those that go on about earlier ones are passed over."""
    until_s = time.monotonic() + 120.0
    while time.monotonic() < until_s:
        if f'"{address}"'.encode() in subscriber.next_alerts(1)[0].payload:
            return True
    return False


def _wait_until(is_so, *, patience_s: float = 120.0) -> None:
    until_s = time.monotonic() + patience_s
    while not is_so():
        assert time.monotonic() < until_s
        time.sleep(0.01)
