"""`penstock doctor`: each fault it knows is provoked, and told with what to do; real brokers, rings and namespaces."""

from __future__ import annotations

import datetime
import json
import os
import resource
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agent.capture.source import CaptureSettings
from agent.checks import capturing, delivering, machine, places, scoring
from agent.checks.patient import Check, Patient
from agent.commands import doctor
from agent.config import AgentConfig, load_config
from contracts.bundle import DEFAULT_DIR
from contracts.findings import Finding
from contracts.program import Parser, run_program
from tests.broker import Broker, Subscriber
from tests.delivery.certificates import Authority
from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[3]
RING = CaptureSettings(interface="lo")
NOW = datetime.datetime.now(datetime.timezone.utc)


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PENSTOCK_") or name == "CREDENTIALS_DIRECTORY"]:
        monkeypatch.delenv(name)


@pytest.fixture
def settle(tmp_path: Path) -> Callable[..., AgentConfig]:
    """Give a function that reads settings with a state folder as it should be, and more lines of TOML."""
    (tmp_path / "state").mkdir(mode=0o750)

    def settle_(more: str = "", **overrides: object) -> AgentConfig:
        file = tmp_path / "agent.toml"
        file.write_text(
            f'[gateway]\nid = "cellar"\nstate_dir = "{tmp_path}/state"\n[capture]\ninterfaces = ["lo"]\n'
            f'[status]\nsocket = "{tmp_path}/s"\n{more}'
        )
        return load_config(file, conf_d=None, environ={}, overrides=overrides)

    return settle_


def only(check: Check, patient: Patient) -> Finding:
    """Return the one thing a check found."""
    (finding,) = check(patient)
    return finding


def plant(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


# -- the machine --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("release", "state"),
    [("3.1.10", "fail"), ("3.2.0", "warn"), ("4.9.253-tegra", "warn"), ("4.20.0", "ok"), ("6.8", "ok"), ("x", "warn")],
)
def test_a_kernel_is_judged_by_what_the_ring_needs_of_it(tmp_path: Path, release: str, state: str):
    root = plant(tmp_path, {"proc/sys/kernel/osrelease": f"{release}\n"})

    assert only(machine.kernel, Patient(root=root)).state == state


@pytest.mark.parametrize(
    ("effective", "state"), [("0000000000000000", "fail"), ("0000000000001fff", "fail"), ("0000000000002000", "ok")]
)
def test_capturing_wants_net_raw_and_no_other_capability(tmp_path: Path, effective: str, state: str):
    root = plant(tmp_path, {"proc/self/status": f"Name:\tx\nCapEff:\t{effective}\n"})

    assert only(machine.capabilities, Patient(root=root)).state == state


def test_a_clock_nobody_set_is_a_warning(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(machine, "is_clock_synchronised", lambda: False)
    unsure = only(machine.clock, Patient())
    monkeypatch.setattr(machine, "is_clock_synchronised", lambda: True)

    assert (unsure.state, only(machine.clock, Patient()).state) == ("warn", "ok")
    assert "timedatectl" in unsure.remedy


NANO = {
    "proc/device-tree/model": "NVIDIA Jetson Nano Developer Kit\0",
    "etc/nv_tegra_release": "# R32 (release), REVISION: 7.1, GCID: 29818004, BOARD: t210ref",
    "var/lib/nvpmodel/status": "pmode:0001",
    "etc/nvpmodel.conf": "< POWER_MODEL ID=1 NAME=5W >\n",
    "sys/class/thermal/thermal_zone0/type": "CPU-therm\n",
    "sys/class/thermal/thermal_zone0/temp": "91000\n",
}


def test_a_hot_original_nano_without_its_openblas_is_told_all_three(tmp_path: Path):
    named, openblas, hot = machine.board(Patient(root=plant(tmp_path, NANO), environ={}))

    assert named.seen == "NVIDIA Jetson Nano Developer Kit, L4T R32.7.1, mode 5W"
    assert (openblas.state, hot.state) == ("warn", "warn")
    assert "ARMV8" in openblas.remedy
    assert "91 C" in hot.seen


def test_an_orin_nano_needs_no_openblas(tmp_path: Path):
    root = plant(tmp_path, {"proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0"})

    assert [each.state for each in machine.board(Patient(root=root, environ={}))] == ["ok"]


# -- interfaces ---------------------------------------------------------------------------------------------------


def test_the_only_interface_being_absent_fails_and_one_of_two_is_a_warning():
    alone = only(capturing.interfaces, Patient(interfaces=("nosuch0",)))
    two = list(capturing.interfaces(Patient(interfaces=("nosuch0", "nosuch1"))))

    assert alone.state == "fail"
    assert [each.state for each in two] == ["warn", "warn"]


def in_a_namespace(prepare: str, *arguments: str) -> list[dict[str, str]]:
    """Return what the doctor finds in a network namespace of its own, after some commands there."""
    command = f"{prepare}; exec {sys.executable} -m agent.cli doctor --json {' '.join(arguments)}"
    run = subprocess.run(
        ["unshare", "-n", "sh", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert run.returncode in (0, 1), run.stderr
    found: list[dict[str, str]] = json.loads(run.stdout)["findings"]
    return found


def states(findings: list[dict[str, str]], check: str) -> list[tuple[str, str]]:
    return [(each["state"], each["seen"]) for each in findings if each["check"] == check]


@pytest.mark.needs_root
def test_a_veth_with_gro_that_is_down_is_told_so_and_how_to_mend_it():
    prepare = "ip link add v0 type veth peer name v1; ethtool -K v0 gro on"

    found = in_a_namespace(prepare, "--interface", "v0")

    assert states(found, "interface") == [("warn", "v0: down, no packet comes over it")]
    ((state, seen),) = states(found, "offloads")
    assert (state, seen.partition(" glue")[0].partition(", ")[0]) == ("warn", "v0: gro")
    assert states(found, "ring") == [("ok", f"v0: {RING.block_count} blocks of {RING.block_bytes:,} octets")]
    assert next(each["remedy"] for each in found if each["check"] == "offloads").startswith(
        "sudo ethtool -K v0 gro off"
    )


@pytest.mark.needs_root
def test_offloads_that_are_off_and_an_interface_that_is_up_are_well():
    prepare = "ip link add v0 type veth peer name v1; ip link set v0 up; ethtool -K v0 gro off tso off gso off"

    found = in_a_namespace(prepare, "--interface", "v0")

    assert [state for check in ("interface", "offloads") for state, _ in states(found, check)] == ["ok", "ok"]


@pytest.mark.needs_root
def test_a_ring_there_is_no_memory_for_fails(settle: Callable[..., AgentConfig]):
    """The process may take 8 MiB more than it has; the ring wants 32."""
    vm_pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (vm_pages * os.sysconf("SC_PAGE_SIZE") + (8 << 20), before[1]))
    try:
        found = list(capturing.interfaces(Patient(config=settle(), interfaces=("lo",))))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)

    (ring,) = [each for each in found if each.check == "ring"]
    assert (ring.state, f"{RING.block_count} blocks" in ring.seen) == ("fail", True)
    assert "block_count" in ring.remedy


# -- places -------------------------------------------------------------------------------------------------------


def test_a_state_folder_of_ours_alone_is_well(settle: Callable[..., AgentConfig], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(places, "_wanted_owner", lambda: None)

    assert only(places.state_dir, Patient(config=settle())).state == "ok"


@pytest.mark.parametrize(
    ("mode", "state"), [(0o777, "fail"), (0o770, "fail"), (0o755, "warn"), (0o750, "ok"), (0o700, "ok")]
)
def test_a_state_folder_that_others_may_write_fails(
    settle: Callable[..., AgentConfig], monkeypatch: pytest.MonkeyPatch, mode: int, state: str
):
    config = settle()
    config.gateway.state_dir.chmod(mode)
    monkeypatch.setattr(places, "_wanted_owner", lambda: None)

    assert only(places.state_dir, Patient(config=config)).state == state


def test_a_state_folder_that_is_absent_or_a_file_fails(settle: Callable[..., AgentConfig]):
    config = settle()
    config.gateway.state_dir.rmdir()
    absent = only(places.state_dir, Patient(config=config))
    config.gateway.state_dir.write_text("")
    a_file = only(places.state_dir, Patient(config=config))

    assert (absent.state, a_file.state) == ("fail", "fail")
    assert "install -d" in absent.remedy


@pytest.mark.needs_root
def test_a_state_folder_of_another_user_fails(settle: Callable[..., AgentConfig], monkeypatch: pytest.MonkeyPatch):
    """`nobody` stands in for the service's user, which this machine need not have."""
    monkeypatch.setattr(places, "SERVICE_USER", "nobody")

    finding = only(places.state_dir, Patient(config=settle()))

    assert (finding.state, "chown" in finding.remedy) == ("fail", True)


def test_a_disk_without_room_for_what_the_settings_allow_is_a_warning(settle: Callable[..., AgentConfig]):
    config = settle('[mqtt]\nurl = "mqtt://127.0.0.1"\n[outbox]\nmax_bytes = 1_099_511_627_776\n')

    finding = only(places.disk, Patient(config=config))

    assert (finding.state, "outbox.max_bytes" in finding.remedy) == ("warn", True)


@pytest.mark.needs_root
def test_a_full_disk_fails(settle: Callable[..., AgentConfig]):
    """A file system of one megabyte, in a mount namespace of its own."""
    folder = settle().gateway.state_dir
    command = (
        f"mount -t tmpfs -o size=1m none {folder} && exec {sys.executable} -m agent.cli doctor --json "
        f"--config {folder.parent}/agent.toml"
    )

    run = subprocess.run(
        ["unshare", "-m", "sh", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )

    assert run.returncode == 1, run.stderr
    assert states(json.loads(run.stdout)["findings"], "disk")[0][0] == "fail"


# -- what scores --------------------------------------------------------------------------------------------------


def installed(folder: Path, *names: str) -> tuple[str, ...]:
    for name in names:
        plant(folder, {f"{name.replace('-', '_')}-1.2.3.dist-info/METADATA": f"Name: {name}\nVersion: 1.2.3\n"})
    return (str(folder),)


@pytest.mark.parametrize(
    ("names", "state", "seen"),
    [
        (["onnxruntime"], "ok", "onnxruntime 1.2.3"),
        (["onnxruntime-gpu"], "ok", "onnxruntime-gpu 1.2.3"),
        (["onnxruntime", "onnxruntime-gpu"], "fail", "onnxruntime 1.2.3 and onnxruntime-gpu 1.2.3"),
        ([], "fail", "no ONNX Runtime"),
    ],
)
def test_one_runtime_is_well_both_or_none_fail(tmp_path: Path, names: list[str], state: str, seen: str):
    finding = only(scoring.runtime, Patient(packages=installed(tmp_path, "numpy", *names)))

    assert (finding.state, finding.seen) == (state, seen)


def test_a_runtime_that_cannot_be_imported_fails_with_its_pip_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)

    finding = only(scoring.providers, Patient())

    assert finding.state == "fail"
    assert "pip install" in finding.remedy


def test_the_shipped_bundle_is_vouched_for_and_scores():
    pytest.importorskip("onnxruntime")

    assert [only(check, Patient()).state for check in (scoring.bundle, scoring.providers)] == ["ok", "ok"]


def test_a_bundle_with_one_octet_changed_fails(settle: Callable[..., AgentConfig], tmp_path: Path):
    folder = Path(shutil.copytree(DEFAULT_DIR, tmp_path / "bundle"))
    octets = bytearray((folder / "model.onnx").read_bytes())
    octets[100] ^= 1
    (folder / "model.onnx").write_bytes(octets)
    config = settle(**{"scoring.bundle": str(folder), "scoring.trust_dir": str(tmp_path / "trust.d")})

    finding = only(scoring.bundle, Patient(config=config))

    assert (finding.state, "model.onnx" in finding.seen) == ("fail", True)


def jetson(root: Path, *, answer: str) -> Path:
    """Return the root of a board whose interpreter runs `answer` when it is asked for tensorrt."""
    plant(root, {"etc/nv_tegra_release": "# R36 (release), REVISION: 4.3", "usr/bin/python3": f"#!/bin/sh\n{answer}\n"})
    (root / "usr/bin/python3").chmod(0o755)
    return root


def test_a_machine_that_is_no_jetson_needs_no_tensorrt(tmp_path: Path):
    assert only(scoring.tensorrt, Patient(root=tmp_path)).state == "ok"


def test_a_jetson_whose_interpreter_has_no_tensorrt_is_a_warning_and_where_it_is_asked_for_a_failure(
    settle: Callable[..., AgentConfig], tmp_path: Path
):
    root = jetson(tmp_path / "root", answer="exit 1")
    asked = settle(**{"scoring.engine": "tensorrt"})

    found = [only(scoring.tensorrt, Patient(root=root, config=config)) for config in (None, asked)]

    assert [each.state for each in found] == ["warn", "fail"]
    assert "python3-libnvinfer" in found[0].remedy


def test_a_jetson_whose_worker_does_not_listen_is_told_how_to_start_it(
    settle: Callable[..., AgentConfig], tmp_path: Path
):
    root = jetson(tmp_path / "root", answer="echo 10.3.0")
    config = settle(**{"scoring.tensorrt_socket": str(tmp_path / "none")})

    version, worker, *_ = scoring.tensorrt(Patient(root=root, config=config))

    assert (version.state, version.seen) == ("ok", "TensorRT 10.3.0 in the system's python3")
    assert (worker.state, worker.remedy) == ("warn", "systemctl enable --now penstock-tensorrt")


# -- broker and certificates --------------------------------------------------------------------------------------


def patient_of(config: AgentConfig) -> Patient:
    return Patient(config=config, environ={}, timeout_s=120.0)


@pytest.mark.needs_broker
def test_a_broker_that_lets_us_in_keeps_the_agents_session_and_hears_nothing(
    broker: Callable[..., Broker], settle: Callable[..., AgentConfig]
):
    mosquitto = broker().start()
    config = settle(f'[mqtt]\nurl = "mqtt://127.0.0.1:{mosquitto.port}"\n')

    with Subscriber(mosquitto.port).listening() as subscriber:
        finding = only(delivering.broker, patient_of(config))

    assert (finding.state, subscriber.heard.empty()) == ("ok", True)
    log = (mosquitto.folder / "mosquitto.log").read_text()
    assert "as cellar-doctor-" in log
    assert "as cellar " not in log


@pytest.mark.needs_broker
def test_a_broker_that_refuses_the_password_fails_and_does_not_show_it(
    broker: Callable[..., Broker], settle: Callable[..., AgentConfig], tmp_path: Path
):
    mosquitto = broker("allow_anonymous false", "password_file passwords")
    mosquitto.password_file("cellar", "right")
    mosquitto.start()
    secret = tmp_path / "secret"
    secret.write_text("wrong-secret\n")
    secret.chmod(0o600)
    config = settle(
        f'[mqtt]\nurl = "mqtt://127.0.0.1:{mosquitto.port}"\nusername = "cellar"\npassword_file = "{secret}"\n'
    )

    finding = only(delivering.broker, patient_of(config))

    assert (finding.state, "refused" in finding.seen, "wrong-secret" in str(finding)) == ("fail", True, False)


def test_a_port_where_nobody_listens_fails(settle: Callable[..., AgentConfig]):
    config = settle(f'[mqtt]\nurl = "mqtt://127.0.0.1:{free_port()}"\n')

    finding = only(delivering.broker, patient_of(config))

    assert (finding.state, "refused" in finding.seen) == ("fail", True)


@pytest.mark.needs_broker
def test_a_broker_signed_by_somebody_else_fails_and_by_ours_is_well_until_its_day(
    broker: Callable[..., Broker], settle: Callable[..., AgentConfig], tmp_path: Path
):
    """The certificates of these tests hold for a day, which is a warning by itself."""
    ours, another = Authority(tmp_path), Authority(tmp_path, "another")
    cert, key = ours.issue("broker")
    mosquitto = broker(f"certfile {cert}", f"keyfile {key}").start()
    line = f'[mqtt]\nurl = "mqtts://127.0.0.1:{mosquitto.port}"\nca_file = '

    stranger = only(delivering.broker, patient_of(settle(f'{line}"{another.ca}"\n')))
    answer, expiry = delivering.broker(patient_of(settle(f'{line}"{ours.ca}"\n')))

    assert (stranger.state, "TLS" in stranger.seen) == ("fail", True)
    assert (answer.state, expiry.state, expiry.check) == ("ok", "warn", "certificate")


def certificate(path: Path, *, begins_days: float, ends_days: float) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW + datetime.timedelta(days=begins_days))
        .not_valid_after(NOW + datetime.timedelta(days=ends_days))
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.mark.parametrize(
    ("begins_days", "ends_days", "state"),
    [(-9, -1, "fail"), (-9, 29, "warn"), (-9, 31, "ok"), (1, 99, "fail")],
    ids=["over", "over soon", "good", "not yet"],
)
def test_a_certificate_is_judged_by_its_days(
    settle: Callable[..., AgentConfig], tmp_path: Path, begins_days: float, ends_days: float, state: str
):
    path = certificate(tmp_path / "ca.pem", begins_days=begins_days, ends_days=ends_days)
    config = settle(f'[mqtt]\nurl = "mqtts://127.0.0.1:1"\nca_file = "{path}"\n')

    assert only(delivering.certificates, Patient(config=config)).state == state


def test_of_several_certificates_in_a_file_the_first_to_end_counts(settle: Callable[..., AgentConfig], tmp_path: Path):
    long = certificate(tmp_path / "long.pem", begins_days=-1, ends_days=900)
    short = certificate(tmp_path / "short.pem", begins_days=-1, ends_days=5)
    (tmp_path / "both.pem").write_bytes(long.read_bytes() + short.read_bytes())
    config = settle(f'[mqtt]\nurl = "mqtts://127.0.0.1:1"\nca_file = "{tmp_path}/both.pem"\n')

    assert only(delivering.certificates, Patient(config=config)).state == "warn"


# -- the whole ----------------------------------------------------------------------------------------------------


def ask(*arguments: str) -> int:
    parser = Parser(prog="penstock doctor")
    doctor.add_arguments(parser)
    return run_program("penstock", lambda: doctor.run(parser.parse_args([*arguments])))


@pytest.fixture
def quiet_checks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Check]]:
    """Leave only what a test puts here, so that this machine's own faults do not count."""
    checks: list[Check] = []
    monkeypatch.setattr(doctor, "CHECKS", checks)
    return iter([checks])


def test_a_configuration_that_does_not_hold_fails_and_the_rest_is_looked_at_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "agent.toml").write_text("[scoring]\ndeadline = 5\n")

    code = ask("--config", str(tmp_path / "agent.toml"), "--json")

    found = json.loads(capsys.readouterr().out)
    no_rights = [state for state, _ in states(found["findings"], "capabilities")].count("fail")  # where we are not root
    assert (code, found["healthy"], found["fail"] - no_rights) == (1, False, 1)
    assert "scoring.deadline" in states(found["findings"], "config")[0][1]
    assert len(states(found["findings"], "kernel")) == 1


def test_warnings_alone_end_with_0_and_each_names_what_to_do(
    settle: Callable[..., AgentConfig],
    tmp_path: Path,
    quiet_checks: Iterator[list[Check]],
    capsys: pytest.CaptureFixture[str],
):
    next(quiet_checks).append(lambda _: iter([Finding("clock", "warn", "is \x1b[2Junsure", "set it")]))
    settle("[stdout]\nenabled = true\n[metrics]\nenabled = false\n")

    code = ask("--config", str(tmp_path / "agent.toml"))

    assert code == 0
    assert capsys.readouterr().out.splitlines() == [
        f"ok    config  {tmp_path}/agent.toml",
        "warn  clock   is \\x1b[2Junsure",
        "              -> set it",
        "1 ok, 1 to be looked at, 0 failed",
    ]


def test_a_secret_that_everybody_may_read_is_noticed(
    settle: Callable[..., AgentConfig], tmp_path: Path, quiet_checks: Iterator[list[Check]]
):
    assert quiet_checks
    secret = tmp_path / "secret"
    secret.write_text("x\n")
    secret.chmod(0o644)
    settle(f'[mqtt]\nurl = "mqtts://127.0.0.1"\nusername = "u"\npassword_file = "{secret}"\n')

    _, found = doctor.configuration(tmp_path / "agent.toml", environ={})

    assert [each.state for each in found] == ["warn"]
    assert stat.S_IMODE(secret.stat().st_mode) == 0o644  # told, not changed
