"""More faults that `penstock doctor` knows, each provoked; the page's table of faults names a test for every one."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.capture import interface
from agent.checks import capturing, delivering, places, scoring
from agent.checks.patient import Check, Patient
from agent.commands import doctor
from agent.config import AgentConfig, load_config
from contracts.findings import Finding
from tests.bundles import sign, write_nervous_bundle
from tests.detection.windows import make_manifest

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "doctor.md").read_text()
UNPRIVILEGED = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"]


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PENSTOCK_") or name == "CREDENTIALS_DIRECTORY"]:
        monkeypatch.delenv(name)


@pytest.fixture
def settle(tmp_path: Path) -> Callable[..., AgentConfig]:
    def settle_(more: str = "", **overrides: object) -> AgentConfig:
        file = tmp_path / "agent.toml"
        file.write_text(f'[gateway]\nstate_dir = "{tmp_path}"\n[capture]\ninterfaces = ["lo"]\n{more}')
        return load_config(file, conf_d=None, environ={}, overrides=overrides)

    return settle_


def only(check: Check, patient: Patient) -> Finding:
    (finding,) = check(patient)
    return finding


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder of root's that every user can reach, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def asked_as_nobody(*arguments: str) -> list[dict[str, str]]:
    """Return what the doctor finds for a user without a right; the interpreter must be one that user can reach."""
    if shutil.which("setpriv") is None:
        pytest.skip("no setpriv")
    command = [*UNPRIVILEGED, sys.executable, "-B", "-m", "agent.cli", "doctor", "--json", *arguments]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    if run.returncode not in (0, 1):
        pytest.skip(f"this interpreter or checkout is not everybody's: {run.stderr.strip()[-100:]}")
    found: list[dict[str, str]] = json.loads(run.stdout)["findings"]
    return found


def states(findings: list[dict[str, str]], check: str) -> list[tuple[str, str]]:
    return [(each["state"], each["seen"]) for each in findings if each["check"] == check]


@pytest.mark.needs_root
def test_a_user_without_rights_is_told_of_the_capability_and_the_ring_is_not_tried():
    found = asked_as_nobody("--interface", "lo")

    assert states(found, "capabilities") == [("fail", "no CAP_NET_RAW in this process")]
    assert states(found, "ring") == [("warn", "lo: not tried without CAP_NET_RAW")]


@pytest.mark.needs_root
def test_a_state_folder_this_user_may_not_write_fails(open_folder: Path):
    (open_folder / "state").mkdir(mode=0o755)
    config = open_folder / "agent.toml"
    config.write_text(f'[gateway]\nstate_dir = "{open_folder}/state"\n[capture]\ninterfaces = ["lo"]\n')
    config.chmod(0o644)

    ((state, seen),) = states(asked_as_nobody("--config", str(config)), "state")

    assert (state, "may not write" in seen) == ("fail", True)


def test_no_configuration_at_all_is_a_warning_that_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor, "default_file", lambda: None)

    config, (finding,) = doctor.configuration(None, environ={})

    assert (config, finding.state) == (None, "warn")
    assert "install.sh" in finding.remedy


def test_a_secret_that_is_absent_fails(settle: Callable[..., AgentConfig], tmp_path: Path):
    settle(f'[mqtt]\nurl = "mqtts://127.0.0.1"\nusername = "u"\npassword_file = "{tmp_path}/none"\n')

    _, (finding,) = doctor.configuration(tmp_path / "agent.toml", environ={})

    assert (finding.state, "password_file" in finding.seen) == ("fail", True)


def test_no_interface_named_is_a_warning():
    finding = only(capturing.interfaces, Patient(interfaces=()))

    assert (finding.state, "--interface" in finding.remedy) == ("warn", True)


def test_an_interface_whose_frames_cannot_be_decoded_fails(monkeypatch: pytest.MonkeyPatch):
    """768 is a tunnel of IP in IP, whose frames begin with no header we know."""
    monkeypatch.setattr(interface, "hardware_type", lambda _: 768)

    finding = only(capturing.interfaces, Patient(interfaces=("lo",)))

    assert (finding.state, "hardware type 768" in finding.seen) == ("fail", True)


def test_a_state_folder_others_may_write_is_told_before_whose_it_is(
    settle: Callable[..., AgentConfig], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr(places, "SERVICE_USER", "nobody")
    tmp_path.chmod(0o777)

    assert "others may write" in only(places.state_dir, Patient(config=settle())).seen


def test_a_bundle_that_nobody_vouches_for_fails(settle: Callable[..., AgentConfig], tmp_path: Path):
    folder = write_nervous_bundle(tmp_path / "bundle")
    (tmp_path / "trust.d").mkdir(mode=0o755)
    config = settle(**{"scoring.bundle": str(folder), "scoring.trust_dir": str(tmp_path / "trust.d")})

    finding = only(scoring.bundle, Patient(config=config))

    assert (finding.state, "rollback" in finding.remedy) == ("fail", True)
    assert "sign" in finding.seen


def test_a_bundle_made_for_other_columns_fails(settle: Callable[..., AgentConfig], tmp_path: Path):
    other = make_manifest().model_copy(update={"schema_id": "0" * 16}).schema_id
    folder = sign(write_nervous_bundle(tmp_path / "bundle", schema_id=other), tmp_path / "trust.d")
    config = settle(**{"scoring.bundle": str(folder), "scoring.trust_dir": str(tmp_path / "trust.d")})

    finding = only(scoring.bundle, Patient(config=config))

    assert (finding.state, other in finding.seen) == ("fail", True)


def test_a_bundle_that_is_not_there_fails_and_so_does_scoring_with_it(
    settle: Callable[..., AgentConfig], tmp_path: Path
):
    pytest.importorskip("onnxruntime")
    config = settle(**{"scoring.bundle": str(tmp_path / "none"), "scoring.trust_dir": str(tmp_path)})

    found = [only(check, Patient(config=config)) for check in (scoring.bundle, scoring.providers)]

    assert [each.state for each in found] == ["fail", "fail"]


def test_tensorrt_asked_for_where_no_interpreter_has_it_fails_on_any_machine(
    settle: Callable[..., AgentConfig], tmp_path: Path
):
    config = settle(**{"scoring.engine": "tensorrt"})

    assert only(scoring.tensorrt, Patient(root=tmp_path, config=config)).state == "fail"


def test_a_bundle_without_its_float_graph_is_told_where_tensorrt_is_to_use_it(
    settle: Callable[..., AgentConfig], tmp_path: Path
):
    interpreter = tmp_path / "usr/bin/python3"
    interpreter.parent.mkdir(parents=True)
    interpreter.write_text("#!/bin/sh\necho 10.3.0\n")
    interpreter.chmod(0o755)
    folder = sign(write_nervous_bundle(tmp_path / "bundle"), tmp_path / "trust.d")
    with socket.socket(socket.AF_UNIX) as worker:
        worker.bind(str(tmp_path / "s"))
        config = settle(**{
            "scoring.engine": "tensorrt", "scoring.tensorrt_socket": str(tmp_path / "s"),
            "scoring.bundle": str(folder), "scoring.trust_dir": str(tmp_path / "trust.d"),
        })  # fmt: skip

        version, graph = scoring.tensorrt(Patient(root=tmp_path, config=config))

    assert (version.state, graph.state) == ("ok", "fail")
    assert "model_float.onnx" in graph.seen


def test_a_broker_whose_name_has_no_address_fails(settle: Callable[..., AgentConfig]):
    """`.invalid` is a name that no resolver may know (RFC 6761)."""
    config = settle('[mqtt]\nurl = "mqtts://broker.invalid"\n')

    finding = only(delivering.broker, Patient(config=config, environ={}, timeout_s=120.0))

    assert (finding.state, "no address" in finding.seen) == ("fail", True)


def test_a_broker_that_never_answers_fails_in_time(settle: Callable[..., AgentConfig]):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        config = settle(f'[mqtt]\nurl = "mqtt://127.0.0.1:{silent.getsockname()[1]}"\n')

        finding = only(delivering.broker, Patient(config=config, environ={}, timeout_s=0.2))

    assert (finding.state, "no answer in time" in finding.seen) == ("fail", True)


def test_a_certificate_that_is_none_fails(settle: Callable[..., AgentConfig], tmp_path: Path):
    (tmp_path / "ca.pem").write_text("not a certificate\n")
    config = settle(f'[mqtt]\nurl = "mqtts://127.0.0.1:1"\nca_file = "{tmp_path}/ca.pem"\n')

    finding = only(delivering.certificates, Patient(config=config))

    assert (finding.state, "no certificate in PEM" in finding.seen) == ("fail", True)


# -- the page -----------------------------------------------------------------------------------------------------


def test_each_fault_of_the_page_names_a_test_that_exists_and_every_check_has_its_faults():
    rows = re.findall(r"^\| `(\w+)` \| .+ \| (?:warn|fail) \| `(test_\w+)` \|$", PAGE, re.MULTILINE)
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_doctor*.py"))
    checks = set(re.findall(r'(?:warn|fail|\w*bad)\(\s*"(\w+)"', "".join(
        path.read_text() for path in (ROOT / "agent/checks").glob("*.py")
    )))  # fmt: skip

    assert [name for _, name in rows if f"def {name}(" not in tests] == []
    assert sorted(checks - {check for check, _ in rows}) == []
