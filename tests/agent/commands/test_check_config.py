"""`penstock check-config`: what it says, what it warns of, and how it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent.commands import check_config
from contracts.errors import ConfigError
from contracts.program import Parser, run_program
from tests.delivery.certificates import Authority

BASE = '[capture]\ninterfaces = ["lo"]\n'


def check(*arguments: str) -> int:
    parser = Parser(prog="penstock check-config")
    check_config.add_arguments(parser)
    return run_program("penstock", lambda: check_config.run(parser.parse_args([*arguments])))


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PENSTOCK_") or name == "CREDENTIALS_DIRECTORY"]:
        monkeypatch.delenv(name)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    for folder in ("state", "run"):
        (tmp_path / folder).mkdir()
    return tmp_path / "agent.toml"


def quiet(file: Path, more: str = "") -> str:
    """Return a configuration that nothing can be said against, and more of it."""
    return (
        f'[gateway]\nid = "cellar"\nstate_dir = "{file.parent}/state"\n{BASE}[status]\nsocket = "{file.parent}/run/s"\n'
        f'[eve]\npath = "{file.parent}/eve.json"\n{more}'
    )


def test_a_configuration_that_works_is_said_so_and_ends_with_0(file: Path, capsys: pytest.CaptureFixture[str]):
    file.write_text(quiet(file))

    code = check(str(file))

    assert (code, *capsys.readouterr()) == (0, f"{file}: ok, watches lo as cellar\n", "")


def test_one_that_does_not_ends_with_78_and_one_line(file: Path, capsys: pytest.CaptureFixture[str]):
    file.write_text(quiet(file, "[scoring]\ndeadline = 5\n"))

    code = check(str(file))

    out, err = capsys.readouterr()
    assert (code, out) == (78, "")
    assert err == f"penstock: {file}:11: scoring.deadline: unknown key, wanted scoring.deadline_ms?\n"


def test_json_holds_every_setting_or_the_error(file: Path, capsys: pytest.CaptureFixture[str]):
    file.write_text(quiet(file))
    codes = [check(str(file), "--json")]
    good = json.loads(capsys.readouterr().out)
    file.write_text("[x]\n")
    codes.append(check(str(file), "--json"))
    bad = json.loads(capsys.readouterr().out)

    assert codes == [0, 78]
    assert (good["ok"], good["warnings"], good["config"]["scoring"]["batch_windows"]) == (True, [], 256)
    assert (bad["ok"], bad["exit_code"]) == (False, 78)
    assert "x: unknown section" in bad["error"]


def test_a_file_that_is_not_there_is_an_error_where_it_was_named(file: Path, capsys: pytest.CaptureFixture[str]):
    assert check(str(file)) == 78
    assert capsys.readouterr().err == f"penstock: {file}: cannot be read: No such file or directory\n"


def test_files_of_conf_d_beside_it_are_read(file: Path):
    file.write_text(quiet(file))
    (file.parent / "conf.d").mkdir()
    (file.parent / "conf.d" / "10.toml").write_text("[scoring]\ndeadline_ms = 7\n")

    assert check_config.checked(file, environ={})[1].scoring.deadline_ms == 7


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("", []),
        ('[capture]\ninterfaces = ["nowhere0"]\n', ["capture.interfaces: nowhere0 is not there now"]),
        (
            '[metrics]\nlisten = "0.0.0.0:9744"\n',
            ["metrics.listen: 0.0.0.0:9744 is open to other machines without TLS"],
        ),
        ('[metrics]\nlisten = "0.0.0.0:9744"\nenabled = false\n', []),
        ('[mqtt]\nurl = "mqtts://me:secret@b"\n', ["mqtt.url: a password stands in the address"]),
    ],
)
def test_what_will_be_noticed_later_is_a_warning(file: Path, more: str, said: list[str]):
    text = quiet(file, more)
    file.write_text(text if "[capture]" not in more else text.replace(BASE, ""))

    warnings = check_config.checked(file, environ={})[2]

    assert len(warnings) == len(said)
    assert all(warning.startswith(start) for warning, start in zip(warnings, said, strict=True)), warnings
    assert "secret" not in " ".join(warnings)


def test_an_agent_whose_alerts_go_nowhere_is_warned_of(file: Path):
    file.write_text(BASE)

    warnings = check_config.checked(file, environ={})[2]

    assert any(warning.startswith("no alert goes anywhere") for warning in warnings)


MQTT = '[mqtt]\nurl = "mqtts://b"\nusername = "me"\npassword_file = "{}"\n'


@pytest.mark.parametrize(
    ("octets", "mode", "said"),
    [
        (b"secret\n", 0o666, "mode 0666, wanted a secret that others cannot write"),
        (b"secret\n", 0o620, "mode 0620, wanted a secret that others cannot write"),
        (b"\n", 0o600, "its first line is empty"),
        (b"", 0o600, "its first line is empty"),
        (b"s\x00cret", 0o600, "its first line is no text"),
        (b"\xff\xfe", 0o600, "octets that are no UTF-8"),
        (b"x" * 5000, 0o600, "a line of more than 4,096 octets"),
        (None, 0o600, "cannot be read: not a regular file"),
    ],
)
def test_a_secret_that_cannot_be_one_is_refused_and_not_shown(file: Path, octets: bytes | None, mode: int, said: str):
    secret = file.parent / "secret"
    if octets is None:
        os.mkfifo(secret)
    else:
        secret.write_bytes(octets)
    secret.chmod(mode)
    file.write_text(quiet(file, MQTT.format(secret)))

    with pytest.raises(ConfigError, match=said) as caught:
        check_config.checked(file, environ={})

    assert str(caught.value).startswith(f"mqtt.password_file: {secret}: ")
    assert "secret\n" not in str(caught.value)


def test_a_secret_may_be_a_credential_of_systemd(file: Path):
    (file.parent / "mqtt-password").write_text("secret")
    (file.parent / "mqtt-password").chmod(0o400)
    file.write_text(quiet(file, MQTT.format("mqtt-password")))

    warnings = check_config.checked(file, environ={"CREDENTIALS_DIRECTORY": str(file.parent)})[2]

    assert warnings == []


def test_a_credential_nobody_passed_on_is_told_with_what_the_unit_lacks(file: Path):
    file.write_text(quiet(file, MQTT.format("mqtt-password")))

    with pytest.raises(ConfigError, match="wanted LoadCredential=mqtt-password:"):
        check_config.checked(file, environ={})


def test_a_secret_others_may_read_is_warned_of(file: Path):
    (file.parent / "secret").write_text("secret")
    (file.parent / "secret").chmod(0o644)
    file.write_text(quiet(file, MQTT.format(file.parent / "secret")))

    warnings = check_config.checked(file, environ={})[2]

    assert warnings == [f"mqtt.password_file: others may read {file.parent}/secret (chmod o-r)"]


def test_certificates_are_loaded_as_the_agent_would(file: Path):
    authority = Authority(file.parent)
    cert, key = authority.issue("gateway")
    (file.parent / "empty.pem").touch()
    tls = f'[metrics]\ncert_file = "{cert}"\nkey_file = "{{}}"\n[mqtt]\nurl = "mqtts://b"\nca_file = "{{}}"\n'

    file.write_text(quiet(file, tls.format(key, authority.ca)))
    good = check_config.checked(file, environ={})[2]
    said = []
    for names in [(authority.ca, authority.ca), (key, file.parent / "empty.pem"), (key, file.parent)]:
        file.write_text(quiet(file, tls.format(*names)))
        with pytest.raises(ConfigError) as caught:
            check_config.checked(file, environ={})
        said.append(str(caught.value))

    assert good == []
    assert said[0].startswith(f"metrics.cert_file: {cert}, {authority.ca}: wanted a certificate and its unencrypted")
    assert said[1] == f"mqtt.ca_file: {file.parent}/empty.pem: wanted a certificate in PEM"
    assert said[2].startswith(f"mqtt.ca_file: {file.parent}: cannot be read: ")


def test_a_bundle_that_is_no_folder_of_one_is_refused(file: Path):
    file.write_text(quiet(file, f'[scoring]\nbundle = "{file.parent}"\n'))

    with pytest.raises(ConfigError, match=r"scoring\.bundle: .* wanted the folder of a bundle"):
        check_config.checked(file, environ={})


def test_checking_loads_neither_network_runtime_nor_scapy_nor_metrics():
    """A unit runs it before every start."""
    heavy = ("onnxruntime", "scapy", "prometheus_client", "paho", "torch")
    script = f"import sys, agent.commands.check_config; print([name for name in {heavy!r} if name in sys.modules])"

    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)

    assert run.stdout.strip() == "[]"
