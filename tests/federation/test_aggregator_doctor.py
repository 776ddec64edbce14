"""`penstock-aggregator doctor`: every fault it names is brought about here; root's commands go on as the owner."""

from __future__ import annotations

import json
import os
import queue
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from exporter.sign import make_key
from federation.aggregator import flower
from federation.aggregator.doctor import examine
from federation.aggregator.ledger import ADDED_TABLES, Ledger, LedgerError
from federation.aggregator.probe import Answer, _Trial
from federation.aggregator.program import main
from tests.broker import Broker, Subscriber
from tests.delivery.certificates import Authority
from tests.federation.postgres import Cluster
from tests.mosquitto_sample import as_sample
from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "lab" / "demo" / "ground_truth.json"
PAGE = (ROOT / "docs" / "aggregator.md").read_text()
NOBODY = 65_534
Settle = Callable[..., Path]


@pytest.fixture
def settle(tmp_path: Path) -> Settle:
    """Give a function that writes settings as they should be, with changes; keys, captures and folders are there."""
    for name in ("calls", "bundles"):
        make_key(tmp_path / f"{name}.pem")
    shutil.copytree(DEMO.parent, tmp_path / "judging")
    with open(tmp_path / "judging" / "capture.pcap", "ab") as file:
        file.write(bytes(16))  # the header of an empty packet: another capture
    (tmp_path / "state").mkdir(mode=0o700)

    def write(*changes: tuple[str, str], more: str = "") -> Path:
        text = (
            f'[fleet]\nname = "homes"\n[broker]\nurl = "mqtt://127.0.0.1:{free_port()}"\n'
            f'[keys]\ncalls = "{tmp_path}/calls.pem"\nbundles = "{tmp_path}/bundles.pem"\n'
            f'[windows]\nteaching = ["{DEMO}"]\njudging = ["{tmp_path}/judging/ground_truth.json"]\n'
            f'[worker]\nstate_dir = "{tmp_path}/state"\n{more}'
        )
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "aggregator.toml"
        path.write_text(text)
        return path

    return write


def told(file: Path, check: str, *, is_offline: bool = True) -> list[tuple[str, str]]:
    """Return state and words of one check's findings."""
    found = examine(file, is_offline=is_offline, timeout_s=120.0)
    return [(each.state, each.seen) for each in found if each.check == check]


def test_a_server_that_is_as_it_should_be_has_nothing_to_mend(settle: Settle, capsys: pytest.CaptureFixture[str]):
    assert main(["doctor", "--offline", "--config", str(settle())]) == 0

    out = capsys.readouterr().out
    assert out.endswith("8 ok, 0 to be looked at, 0 failed\n")
    assert "not there yet, the first command makes it" in out


def test_json_is_that_of_the_gateways_doctor(settle: Settle, capsys: pytest.CaptureFixture[str]):
    assert main(["doctor", "--offline", "--json", "--config", str(settle())]) == 0

    said = json.loads(capsys.readouterr().out)
    assert (said["healthy"], said["fail"]) == (True, 0)
    assert set(said["findings"][0]) == {"check", "state", "seen", "remedy"}


def test_without_settings_that_is_all_it_says_and_how_to_get_some(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["doctor", "--config", str(tmp_path / "none.toml")]) == 1

    out = capsys.readouterr().out
    assert "none.toml: not there, wanted a copy of deploy/aggregator.toml" in out
    assert out.endswith("0 ok, 0 to be looked at, 1 failed\n")


def test_a_first_start_without_settings_is_one_line_and_78(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["run", "--config", str(tmp_path / "none.toml")]) == 78

    assert capsys.readouterr().err == (
        f"penstock-aggregator: {tmp_path}/none.toml: not there, wanted a copy of deploy/aggregator.toml "
        "(deploy/install.sh --role aggregator writes one)\n"
    )


def test_it_makes_no_file_of_its_own(settle: Settle, tmp_path: Path):
    file = settle()

    examine(file, is_offline=True, timeout_s=1.0)

    assert list((tmp_path / "state").iterdir()) == []


@pytest.mark.parametrize(
    ("mode", "state", "words"),
    [(0o755, "warn", "others may look into it"), (0o770, "fail", "others may write")],
)
def test_a_state_folder_that_is_open_to_others(settle: Settle, tmp_path: Path, mode: int, state: str, words: str):
    (tmp_path / "state").chmod(mode)

    ((seen, said),) = told(settle(), "state")

    assert (seen, words in said) == (state, True)


def test_a_state_folder_that_is_absent(settle: Settle, tmp_path: Path):
    (tmp_path / "state").rmdir()

    assert told(settle(), "state") == [("fail", f"{tmp_path}/state: No such file or directory")]


def test_a_store_that_is_another_programs_and_an_audit_log_that_was_changed(settle: Settle, tmp_path: Path):
    path = tmp_path / "state" / "aggregator.db"
    ledger = Ledger(path)
    for number in range(2):
        with ledger.change():
            ledger.log("enrolled", at_us=number)
    assert told(settle(), "store") == [("ok", f"{path}: opens, audit log whole (2 entries)")]
    with ledger.change():
        ledger.run("DELETE FROM audit WHERE number = 1")
    ledger.close()

    ((state, said),) = told(settle(), "store")
    assert (state, "the audit log was changed at entry 1" in said) == ("fail", True)
    path.write_bytes(b"something else" * 100)
    assert [state for state, _ in told(settle(), "store")] == ["fail"]


def as_found(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return each file of a folder: when it was written, and what is in it."""
    return {each.name: (each.stat().st_mtime_ns, each.read_bytes()) for each in folder.iterdir()}


def old_store(path: Path) -> None:
    """Make a store as the first version did: the tables that came later are not there."""
    Ledger(path).close()
    db = sqlite3.connect(path, isolation_level=None)
    for each in ADDED_TABLES:
        db.execute(f"DROP TABLE {each}")
    db.close()


def test_a_store_of_an_older_version_is_told_and_left_as_it_is(settle: Settle, tmp_path: Path):
    path = tmp_path / "state" / "aggregator.db"
    old_store(path)
    before = as_found(tmp_path / "state")

    found = [each for each in examine(settle(), is_offline=True, timeout_s=1.0) if each.check == "store"]

    assert [each.state for each in found] == ["warn"]
    assert "of an older version, lacks memory, releases, orders, private_rounds, private, reports" in found[0].seen
    assert "systemctl restart penstock-aggregator" in found[0].remedy
    assert as_found(tmp_path / "state") == before
    assert main(["doctor", "--offline", "--config", str(settle())]) == 0  # an upgrade asks it first


@pytest.mark.parametrize("is_served", [False, True], ids=["at rest", "beside a worker"])
def test_a_store_is_looked_at_and_not_changed(settle: Settle, tmp_path: Path, is_served: bool):
    path = tmp_path / "state" / "aggregator.db"
    worker = Ledger(path)
    with worker.change():
        worker.log("enrolled", at_us=1)
    if not is_served:
        worker.close()
    before = as_found(tmp_path / "state")

    found = told(settle(), "store")

    after = as_found(tmp_path / "state")
    assert found == [("ok", f"{path}: opens, audit log whole (1 entries)")]
    assert len(after) == (3 if is_served else 1)
    assert {name: each for name, each in after.items() if not name.endswith("-shm")} == {
        name: each for name, each in before.items() if not name.endswith("-shm")
    }  # in the -shm SQLite notes who reads
    worker.close()


def test_what_a_killed_worker_left_beside_its_store_is_read_and_stays(settle: Settle, tmp_path: Path):
    path = tmp_path / "state" / "aggregator.db"
    script = (
        "import os, sys\nfrom pathlib import Path\nfrom federation.aggregator.ledger import Ledger\n"
        "ledger = Ledger(Path(sys.argv[1]))\nwith ledger.change():\n    ledger.log('enrolled', at_us=1)\nos._exit(0)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(path)], cwd=ROOT, check=True, timeout=60)
    wal = path.with_name("aggregator.db-wal").read_bytes()
    assert wal

    assert told(settle(), "store") == [("ok", f"{path}: opens, audit log whole (1 entries)")]
    assert path.with_name("aggregator.db-wal").read_bytes() == wal


def test_an_empty_file_is_a_store_that_is_not_made_yet(settle: Settle, tmp_path: Path):
    path = tmp_path / "state" / "aggregator.db"
    path.touch(0o600)

    assert told(settle(), "store") == [("ok", f"{path}: empty: not there yet, the first command makes it")]
    assert path.stat().st_size == 0


def test_a_store_that_lost_what_even_the_first_version_had_fails(settle: Settle, tmp_path: Path):
    path = tmp_path / "state" / "aggregator.db"
    Ledger(path).close()
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("DROP TABLE gateways")
    db.close()

    assert told(settle(), "store") == [("fail", f"{path}: lacks gateways")]


def tables_of(cluster: Cluster, url: str) -> set[str]:
    with cluster.connect(url) as db:
        asked = db.execute("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()")
        return {name for (name,) in asked.fetchall()}


def test_an_empty_database_stays_empty_and_an_older_one_as_old(settle: Settle, cluster: Cluster):
    url = cluster.new_store()
    file = settle(("[worker]\n", f'[worker]\nstore = "{url}"\n'))

    ((state, said),) = told(file, "store")
    assert (state, said.endswith("empty: not there yet, the first command makes it")) == ("ok", True)
    assert tables_of(cluster, url) == set()

    Ledger(url).close()
    assert told(file, "store")[0][0] == "ok"
    with cluster.connect(url) as db:
        db.execute("DROP TABLE reports")
    before = tables_of(cluster, url)

    ((state, said),) = told(file, "store")
    assert (state, "of an older version, lacks reports" in said) == ("warn", True)
    assert tables_of(cluster, url) == before


def test_a_database_looked_at_takes_no_change_and_a_strangers_is_no_store(settle: Settle, cluster: Cluster):
    url, foreign = cluster.new_store(), cluster.new_store()
    Ledger(url).close()
    with cluster.connect(foreign) as db:
        db.execute("CREATE TABLE rounds (who TEXT)")

    ledger = Ledger(url, as_it_is=True)
    with pytest.raises(LedgerError, match="read-only transaction"):
        ledger.row("INSERT INTO counters VALUES (?, 1) RETURNING what", "x")
    ledger.close()
    ((state, said),) = told(settle(("[worker]\n", f'[worker]\nstore = "{foreign}"\n')), "store")

    assert (state, "lacks fleet, gateways" in said) == ("fail", True)


def test_keys_that_others_may_read_that_are_gone_or_whose_public_half_is_anothers(settle: Settle, tmp_path: Path):
    (tmp_path / "calls.pem").chmod(0o640)
    (tmp_path / "bundles.pem.pub").write_bytes((tmp_path / "calls.pem.pub").read_bytes())

    calls, bundles = told(settle(), "keys")
    assert (calls[0], "has mode 0640, wanted 0600" in calls[1]) == ("fail", True)
    assert (bundles[0], "is not the public half of" in bundles[1]) == ("fail", True)
    (tmp_path / "bundles.pem").unlink()
    assert told(settle(), "keys")[1][0] == "fail"
    elsewhere = told(settle(more="[rollout]\nis_automatic = false\n"), "keys")[1]
    assert (elsewhere[0], "is_automatic is false" in elsewhere[1]) == ("ok", True)


def test_one_key_for_both_is_noticed(settle: Settle, tmp_path: Path):
    found = told(settle((f"{tmp_path}/bundles.pem", f"{tmp_path}/calls.pem")), "keys")

    assert [state for state, _ in found] == ["ok", "ok", "warn"]


def test_a_first_bundle_that_is_not_there(settle: Settle, tmp_path: Path):
    assert [state for state, _ in told(settle(more=f'[bundle]\npath = "{tmp_path}/gone"\n'), "bundle")] == ["fail"]


def test_a_strategy_of_flowers_without_flower(settle: Settle, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(flower, "is_installed", lambda: False)

    assert told(settle(more='[rounds]\nstrategy = "krum"\n'), "strategy") == [
        ("fail", "krum is Flower's, and Flower is not installed")
    ]
    assert told(settle(), "strategy") == [("ok", "fedtrimmedavg, our own")]
    assert told(settle(more='[rounds]\nstrategy = "krum"\nmode = "private"\n'), "strategy")[0][0] == "ok"


def test_captures_that_are_gone_or_teach_and_judge(settle: Settle, tmp_path: Path):
    judging = f"{tmp_path}/judging/ground_truth.json"
    ((state, said),) = told(settle((judging, str(DEMO))), "windows")
    assert (state, "teaches as well" in said) == ("fail", True)
    (tmp_path / "judging" / "capture.pcap").unlink()
    assert [state for state, _ in told(settle(), "windows")] == ["fail"]


def test_a_certificate_that_is_none_is_named_and_one_that_ends_soon_too(settle: Settle, tmp_path: Path):
    authority = Authority(tmp_path)
    (tmp_path / "aggregator.crt").write_text("nothing")
    url = 'url = "mqtts://127.0.0.1"\n' + f'ca = "{authority.ca}"\ncert = "{tmp_path}/aggregator.crt"\n'
    file = settle()
    file.write_text(file.read_text().replace("[broker]\nurl = ", f"[broker]\n{url}# "))

    ca, cert = told(file, "certificate")

    assert (ca[0], "broker.ca: ends in 1 days" in ca[1]) == ("warn", True)
    assert cert == ("fail", f"broker.cert: {tmp_path}/aggregator.crt: no certificate in PEM")


def test_a_key_of_the_brokers_certificate_that_others_may_read_or_that_is_gone(settle: Settle, tmp_path: Path):
    cert, key = Authority(tmp_path).issue("aggregator")
    file = settle()
    url = f'url = "mqtts://127.0.0.1"\nca = "{tmp_path}/authority.pem"\ncert = "{cert}"\nkey = "{key}"\n'
    file.write_text(file.read_text().replace("[broker]\nurl = ", f"[broker]\n{url}# "))

    key.chmod(0o640)
    assert told(file, "keys")[-1] == ("fail", f"broker.key: {key} has mode 0640, wanted 0600: others may read it")
    key.chmod(0o600)
    assert told(file, "keys")[-1] == ("ok", f"broker.key: {key}, mode 0600")
    key.unlink()
    assert told(file, "keys")[-1] == ("fail", f"broker.key: {key}: No such file or directory")


def test_a_broker_that_is_not_there(settle: Settle):
    ((state, said),) = told(settle(), "broker", is_offline=False)

    assert (state, "Connection refused" in said) == ("fail", True)


def at(file: Path, port: int) -> Path:
    """Point settings at a broker of this machine."""
    file.write_text(file.read_text().replace("[broker]\nurl = ", f'[broker]\nurl = "mqtt://127.0.0.1:{port}"\n# '))
    return file


def test_a_broker_that_takes_the_connection_and_is_silent(settle: Settle):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        found = examine(at(settle(), silent.getsockname()[1]), is_offline=False, timeout_s=0.5)

    assert [(each.check, each.state) for each in found][-1] == ("broker", "fail")
    assert found[-1].seen.endswith("no answer in time")


@pytest.mark.needs_broker
def test_a_broker_that_does_not_let_us_in(settle: Settle, tmp_path: Path):
    folder = tmp_path / "closed"
    folder.mkdir()
    made = Broker(folder, "allow_anonymous false").start()

    ((state, said),) = told(at(settle(), made.port), "broker", is_offline=False)
    made.stop()

    assert (state, "refused: " in said) == ("fail", True)


class Deaf:
    """A client whose requests nobody answers."""

    def publish(self, _topic: str, _payload: bytes, *, qos: int) -> SimpleNamespace:
        return SimpleNamespace(mid=qos)

    def subscribe(self, _topics: list) -> tuple[int, int]:
        return 0, 1


def test_a_broker_that_hangs_up_instead_of_answering_says_no_to_all_that_is_left():
    events: queue.SimpleQueue = queue.SimpleQueue()
    events.put(("gone", -1, "x"))
    answer = Answer("x")

    _Trial(Deaf(), events, timeout_s=20.0).rights(answer, fleet="homes", nobody="doctor-1")

    assert (len(answer.lacking), answer.beyond) == (9, [])


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    folder = tmp_path / "pki"
    folder.mkdir()
    return Authority(folder)


@pytest.fixture
def broker(tmp_path: Path, authority: Authority) -> Iterator[Broker]:
    """A mosquitto with the sample's settings and rights."""
    folder = tmp_path / "broker"
    folder.mkdir()
    made = as_sample(Broker(folder), authority, folder)
    made.start()
    yield made
    made.stop()


def with_tls(file: Path, broker: Broker, authority: Authority, *, name: str = "aggregator") -> Path:
    cert, key = authority.issue(name)
    url = f'url = "mqtts://127.0.0.1:{broker.port}"\nca = "{authority.ca}"\ncert = "{cert}"\nkey = "{key}"\n'
    file.write_text(file.read_text().replace("[broker]\nurl = ", f"[broker]\n{url}# "))
    return file


def with_acl(broker: Broker, *lines: str, less: str = "") -> None:
    acl = broker.folder / "acl"
    text = acl.read_text()
    assert less in text
    acl.write_text(text.replace(less, "") + "\n".join(lines) + "\n")
    broker.stop()
    broker.start()


@pytest.mark.needs_broker
def test_the_samples_rights_are_those_an_aggregator_needs_and_no_more(
    settle: Settle, broker: Broker, authority: Authority
):
    file = with_tls(settle(), broker, authority)

    assert [state for state, _ in told(file, "broker", is_offline=False)] == ["ok"]
    assert [state for state, _ in told(file, "rights", is_offline=False)] == ["ok"]


@pytest.mark.needs_broker
def test_what_the_broker_does_not_let_us_do_is_named(settle: Settle, broker: Broker, authority: Authority):
    file = with_tls(settle(), broker, authority)
    with_acl(broker, less="topic write penstock/v1/fleet/+/round\n")

    assert told(file, "rights", is_offline=False) == [("fail", "may not: write penstock/v1/fleet/homes/round")]


@pytest.mark.needs_broker
def test_what_it_lets_us_do_beyond_that_is_named_too(settle: Settle, broker: Broker, authority: Authority):
    file = with_tls(settle(), broker, authority)
    cert, key = authority.issue("attic")
    with_acl(broker, "user aggregator", "topic readwrite penstock/v1/#")
    gateway = Client(CallbackAPIVersion.VERSION2, client_id="attic", protocol=MQTTProtocolVersion.MQTTv5)
    gateway.tls_set(str(authority.ca), str(cert), str(key))
    gateway.connect("127.0.0.1", broker.port)
    gateway.loop_start()
    gateway.publish("penstock/v1/attic/availability", b"online", qos=1, retain=True).wait_for_publish(20)
    gateway.disconnect()
    gateway.loop_stop()

    ((state, said),) = told(file, "rights", is_offline=False)

    assert state == "fail"
    assert said.startswith("may, and needs not: write penstock/v1/doctor-")
    assert "/feedback" in said
    assert said.endswith("read penstock/v1/+/availability")


@pytest.mark.needs_broker
def test_a_certificate_of_another_name_may_nothing_of_it(settle: Settle, broker: Broker, authority: Authority):
    ((state, said),) = told(with_tls(settle(), broker, authority, name="attic"), "rights", is_offline=False)

    assert (state, said.count("write ")) == ("fail", 6)


@pytest.mark.needs_broker
def test_a_broker_that_somebody_else_vouches_for(settle: Settle, broker: Broker, authority: Authority, tmp_path: Path):
    other = tmp_path / "other"
    other.mkdir()
    file = with_tls(settle(), broker, authority)
    file.write_text(file.read_text().replace(str(authority.ca), str(Authority(other).ca)))

    ((state, said),) = told(file, "broker", is_offline=False)

    assert (state, "TLS: " in said) == ("fail", True)


@pytest.mark.needs_broker
def test_it_says_nothing_that_a_gateway_would_take_for_a_message(settle: Settle, tmp_path: Path):
    folder = tmp_path / "open"
    folder.mkdir()
    made = Broker(folder).start()
    file = at(settle(), made.port)

    with Subscriber(made.port).listening() as reader:
        examine(file, is_offline=False, timeout_s=120.0)
        heard = [reader.next() for _ in range(7)]
    made.stop()

    assert {(message.payload, message.retain) for message in heard} == {(b"", False)}
    fleet = [message.topic for message in heard if "/fleet/" in message.topic]
    assert fleet[:2] == ["penstock/v1/fleet/homes/round", "penstock/v1/fleet/homes/anchors"]
    assert all("/doctor-" in message.topic for message in heard if message.topic not in fleet[:2])


@pytest.mark.needs_root
def test_roots_commands_leave_no_file_that_the_service_could_not_use(settle: Settle, tmp_path: Path):
    text = settle().read_text()
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are root's alone
        folder = Path(name)
        shutil.copytree(tmp_path, folder, dirs_exist_ok=True)
        folder.chmod(0o755)
        (folder / "aggregator.toml").write_text(text.replace(str(tmp_path), name))
        for each in ("state", "calls.pem", "bundles.pem"):
            os.chown(folder / each, NOBODY, NOBODY)
        key = folder / "attic.pub"
        shutil.copy(folder / "calls.pem.pub", key)
        key.chmod(0o600)  # root's alone: read before root's rights are gone
        words = ["enrol", "attic", str(key), "--config", str(folder / "aggregator.toml")]

        run = subprocess.run(
            [sys.executable, "-m", "federation.aggregator.program", *words],
            cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120,
            check=False,
        )  # fmt: skip

        assert (run.returncode, run.stdout) == (0, "enrolled attic\n"), run.stderr
        assert {path.stat().st_uid for path in (folder / "state").rglob("*")} == {NOBODY}


def test_every_check_and_option_stands_in_the_page():
    checks = ("settings", "state", "store", "keys", "bundle", "strategy", "windows", "certificate", "broker", "rights")

    assert [check for check in checks if f"| `{check}` |" not in PAGE] == []
    assert "--offline" in PAGE
