"""`penstock forget`: after it, no file on this machine names the device, and all else stands as it stood."""

from __future__ import annotations

import fcntl
import gzip
import json
import os
import sqlite3
import stat
from pathlib import Path

import numpy as np
import pytest

from agent.commands import forget as command
from agent.delivery.outbox import Letter, Outbox
from agent.state.forgetting import Found, Identity, forget, identity_of
from contracts.errors import DataMissing
from contracts.program import Parser, run_program
from contracts.samples import Sample, SampleBook
from flowfeatures import WINDOW_COLUMNS, address_bytes

DEVICE, OTHER = "192.168.1.2", "192.168.1.23"
DEVICE6 = "fd00::2"
MAC, OTHER_MAC = "02:00:00:00:00:02", "02:00:00:00:00:23"
FORMS = (DEVICE, DEVICE6, MAC, address_bytes(DEVICE).hex(), address_bytes(DEVICE6).hex())
DEVICES = {
    "version": 1,
    "devices": [
        {"mac": MAC, "name": "camera", "addresses": [DEVICE, DEVICE6], "wishes": ""},
        {"mac": OTHER_MAC, "name": "tv", "addresses": [OTHER], "wishes": ""},
    ],
}


def eve_line(device: str, mac: str, *, inside: bool = False) -> str:
    src, dest = (device, "203.0.113.9") if inside else ("203.0.113.9", device)
    return json.dumps({"src_ip": src, "dest_ip": dest, "alert": {"context": {"penstock": {"device": {"mac": mac}}}}})


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Give a state folder in which everything names the device, and another one beside it."""
    (tmp_path / "devices.json").write_text(json.dumps(DEVICES))
    mutes = [{"id": "m-1", "device": DEVICE}, {"id": "m-2", "device": OTHER}, {"id": "m-3", "device": "192.168.1.0/24"}]
    benign = [{"id": "b-1", "device": address_bytes(DEVICE6).hex(), "mac": MAC}]
    (tmp_path / "rules.json").write_text(json.dumps({"format": 1, "mutes": mutes, "benign": benign, "verdicts": {}}))
    (tmp_path / "rules.json").chmod(0o640)
    (tmp_path / "calibration.json").write_text(json.dumps({"near": {address_bytes(DEVICE).hex(): 3}, "hours": [1, 2]}))
    with Outbox_(tmp_path / "outbox.db") as outbox:
        outbox.apply(
            added=[
                Letter(2, "cellar", "scan", f"id-{number}", eve_line(device, mac).encode())
                for number, (device, mac) in enumerate([(DEVICE, MAC), (OTHER, OTHER_MAC), (DEVICE6, MAC)])
            ]
        )
    with sqlite3.connect(tmp_path / "incidents.db") as db:
        db.execute("CREATE TABLE incidents (incident_id TEXT PRIMARY KEY, at_us INTEGER, content TEXT) WITHOUT ROWID")
        db.execute("CREATE TABLE messages (alert_id TEXT PRIMARY KEY, incident_id TEXT) WITHOUT ROWID")
        db.execute("CREATE TABLE explanations (incident_id TEXT PRIMARY KEY, content TEXT) WITHOUT ROWID")
        for name, device in (("i-1", DEVICE), ("i-2", OTHER), ("i-3", OTHER)):
            peer = json.dumps({"flows": [{"src": address_bytes(DEVICE if name != "i-3" else OTHER).hex()}]})
            db.execute("INSERT INTO explanations VALUES (?, ?)", (name, peer))
            content = json.dumps({"device": address_bytes(device).hex(), "note": "x" * 4000})
            db.execute("INSERT INTO incidents VALUES (?, 0, ?)", (name, content))
            db.execute("INSERT INTO messages VALUES (?, ?)", (f"a-{name}", name))
    db.close()
    with SampleBook(tmp_path / "samples.db", write=True) as book:
        for number, device in enumerate([DEVICE, DEVICE6, OTHER]):
            rows = np.ones((2, len(WINDOW_COLUMNS)), np.float32)
            book.add(Sample(device=address_bytes(device), due_us=number, rows=rows, margin=-5.0))
    with (tmp_path / "verdicts.log").open("w") as log:
        log.writelines(f'{{"device":"{device}"}}\n' for device in (OTHER, DEVICE))
    (tmp_path / "log").mkdir()
    lines = [eve_line(DEVICE, MAC), eve_line(OTHER, OTHER_MAC), eve_line(DEVICE, MAC, inside=True)]
    (tmp_path / "log" / "eve.json").write_text("\n".join(lines) + "\n")
    (tmp_path / "log" / "eve.json.1").write_text(lines[0] + "\n")
    (tmp_path / "outbox.db.aside-1").write_text(f"something {MAC} something")
    (tmp_path / "rules.json.aside").write_text(OTHER)
    (tmp_path / "incidents.db.damaged").write_text(f"torn {MAC} torn")
    (tmp_path / "samples.db.aside-1").write_bytes(b"pages" + address_bytes(DEVICE) + b"pages")
    (tmp_path / "samples.db.aside-2").write_bytes(b"pages" + address_bytes(OTHER) + b"pages")
    return tmp_path


class Outbox_(Outbox):  # noqa: N801
    def __enter__(self) -> Outbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def forgotten(state: Path, device: str = DEVICE, *, is_rehearsal: bool = False) -> dict[str, int]:
    identity = identity_of(device, state)
    found = forget(
        identity, state_dir=state, outbox=state / "outbox.db", eve=state / "log" / "eve.json", is_rehearsal=is_rehearsal
    )
    assert [each for each in found if each.unread] == []
    return {each.place.name: each.count for each in found}


def octets_of(state: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(state.rglob("*")) if path.is_file()}


WHOLE = {
    "calibration.json": 1,
    "devices.json": 1,
    "rules.json": 2,
    "outbox.db": 2,
    "incidents.db": 3,
    "verdicts.log": 1,
    "eve.json": 2,
    "eve.json.1": 1,
    "outbox.db.aside-1": 1,
    "incidents.db.damaged": 1,
    "samples.db": 2,
    "samples.db.aside-1": 1,
}


@pytest.mark.parametrize("device", [DEVICE, DEVICE6, "FD00:0:0::2", MAC, MAC.upper().replace(":", "-"), "camera"])
def test_by_any_of_its_names_a_device_leaves_every_file(state: Path, device: str):
    counts = forgotten(state, device)

    assert counts == WHOLE
    for name, octets in octets_of(state).items():
        text = octets.decode("latin-1").replace(OTHER, "").replace(address_bytes(OTHER).hex(), "")
        assert [form for form in FORMS if form in text.lower()] == [], name


def test_what_does_not_name_it_stays(state: Path):
    forgotten(state)

    assert json.loads((state / "devices.json").read_text())["devices"] == DEVICES["devices"][1:]
    rules = json.loads((state / "rules.json").read_text())
    assert ([each["id"] for each in rules["mutes"]], rules["benign"]) == (["m-2", "m-3"], [])
    assert json.loads((state / "calibration.json").read_text()) == {"near": {}, "hours": [1, 2]}
    assert (state / "log" / "eve.json").read_text() == eve_line(OTHER, OTHER_MAC) + "\n"
    assert stat.S_IMODE((state / "rules.json").stat().st_mode) == 0o640
    assert (state / "rules.json.aside").exists()
    with Outbox_(state / "outbox.db") as outbox:
        assert [letter.alert_id for _, letter in outbox.after(0, 10)] == ["id-1"]
    with sqlite3.connect(state / "incidents.db") as db:
        assert db.execute("SELECT alert_id FROM messages").fetchall() == [("a-i-2",), ("a-i-3",)]
        assert db.execute("SELECT incident_id FROM explanations").fetchall() == [("i-3",)]
    db.close()


def test_forgetting_again_finds_nothing(state: Path):
    forgotten(state)

    assert forgotten(state) == {}


def test_a_rehearsal_counts_the_same_and_changes_nothing(state: Path):
    before = octets_of(state)

    counts = forgotten(state, is_rehearsal=True)

    assert counts == WHOLE
    after = octets_of(state)
    assert {name: after[name] for name in before if not name.endswith(("-wal", "-shm"))} == {
        name: before[name] for name in before if not name.endswith(("-wal", "-shm"))
    }


@pytest.mark.parametrize(
    ("text", "is_named"),
    [
        ("192.168.1.2", True),
        ("192.168.1.2:443", True),
        ("src=192.168.1.2 dst", True),
        ("::ffff:192.168.1.2", True),
        ("at 192.168.1.2.", True),
        ("192.168.1.20", False),
        ("192.168.1.2.3", False),
        ("1192.168.1.2", False),
        ("1.192.168.1.2", False),
        ("fd00::2", True),
        ("FD00::2", True),
        ("fd00::2:1", False),
        ("afd00::2", False),
        ("02-00-00-00-00-02", True),
        ("02:00:00:00:00:02:03", False),
    ],
)
def test_a_device_is_found_whole_and_not_in_a_longer_name(text: str, is_named: bool):
    pattern = Identity(frozenset({DEVICE, DEVICE6}), frozenset({MAC})).pattern()

    assert bool(pattern.search(text)) == is_named


def test_a_name_nobody_knows_is_an_error(state: Path):
    with pytest.raises(DataMissing, match="toaster"):
        identity_of("toaster", state)


def test_what_cannot_be_looked_into_is_told(state: Path):
    (state / "log" / "eve.json.2.gz").write_bytes(gzip.compress(eve_line(DEVICE, MAC).encode()))
    (state / "broken.json").write_text("{")
    (state / "incidents.db").write_bytes(b"no database at all" * 100)
    os.mkfifo(state / "pipe.json")

    found = forget(
        identity_of(DEVICE, state),
        state_dir=state,
        outbox=state / "outbox.db",
        eve=state / "log" / "eve.json",
        is_rehearsal=False,
    )

    unread = {each.place.name: each.unread for each in found if each.unread}
    assert set(unread) == {"eve.json.2.gz", "broken.json", "incidents.db", "pipe.json"}
    assert Found(state / "log" / "eve.json", 2) in found


def test_a_mention_that_cannot_be_taken_out_is_told(state: Path):
    (state / "odd.json").write_text(json.dumps({"newest": DEVICE}))

    found = forget(
        identity_of(DEVICE, state), state_dir=state, outbox=state / "outbox.db", eve=None, is_rehearsal=False
    )

    assert Found(state / "odd.json", 0, "1 mentions outside any list stay") in found


def run(*arguments: str) -> int:
    parser = Parser(prog="penstock forget")
    command.add_arguments(parser)
    return run_program("penstock", lambda: command.run(parser.parse_args([*arguments])))


def test_the_command_says_where_the_device_stood(state: Path, capsys: pytest.CaptureFixture[str]):
    code = run("camera", "--state-dir", str(state))

    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == f"{MAC}, {DEVICE}, {DEVICE6}: removed from"
    assert f"  {state}/outbox.db: 2" in out.splitlines()


def test_a_configuration_says_where_things_are_kept(state: Path, capsys: pytest.CaptureFixture[str]):
    (state / "agent.toml").write_text(
        f'[capture]\ninterfaces = ["lo"]\n[gateway]\nstate_dir = "{state}"\n[eve]\npath = "{state}/log/eve.json"\n'
        f'[status]\nsocket = "{state}/none"\n'
    )

    code = run(MAC, "--config", str(state / "agent.toml"), "--dry-run")

    assert code == 0
    assert f"  {state}/log/eve.json.1: 1" in capsys.readouterr().out.splitlines()


def test_while_an_agent_owns_the_outbox_nothing_is_changed(state: Path, capsys: pytest.CaptureFixture[str]):
    before = octets_of(state)
    with (state / "outbox.db").open("rb") as owned:
        fcntl.flock(owned, fcntl.LOCK_EX)

        codes = [run(DEVICE, "--state-dir", str(state)), run(DEVICE, "--state-dir", str(state), "--dry-run")]

    assert codes == [64, 0]
    assert "the agent is running" in capsys.readouterr().err
    assert octets_of(state)["rules.json"] == before["rules.json"]


def test_a_device_that_is_named_nowhere_is_no_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    code = run("10.9.9.9", "--state-dir", str(tmp_path))

    assert code == 0
    assert capsys.readouterr().out.endswith(": not named in anything kept here\n")
