"""Where the broker is, as the command line says it."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent import cli
from agent.options.mqtt import PASSWORD_VARIABLE, mqtt_settings
from contracts.errors import UsageError


def settings_of(*options: str):
    return mqtt_settings(cli.build_parser(["replay"]).parse_args(["replay", "x.pcap", *options]))


@pytest.fixture(autouse=True)
def no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PASSWORD_VARIABLE, raising=False)


def test_no_broker_is_asked_for_by_default():
    assert settings_of() is None


def test_a_broker_here_needs_nothing_but_its_address():
    settings = settings_of("--mqtt", "mqtt://127.0.0.1:1999", "--gateway", "cellar")

    assert (settings.host, settings.port, settings.gateway, settings.tls) == ("127.0.0.1", 1999, "cellar", None)
    assert settings.client_id.startswith("cellar-replay-")


def test_the_password_comes_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "secret").write_text("from a file\n")
    monkeypatch.setenv(PASSWORD_VARIABLE, "from the environment")

    from_file = settings_of("--mqtt", "mqtt://me@127.0.0.1", "--mqtt-password-file", str(tmp_path / "secret"))
    from_environment = settings_of("--mqtt", "mqtt://me@127.0.0.1")

    assert (from_file.password, from_environment.password) == ("from a file", "from the environment")


@pytest.mark.parametrize(
    "options",
    [
        ["--mqtt", "mqtt://broker.example"],
        ["--mqtt", "mqtts://broker.example", "--mqtt-key", "key.pem"],
        ["--mqtt", "mqtt://127.0.0.1", "--mqtt-ca", "ca.pem"],
        ["--mqtt", "127.0.0.1:1883"],
    ],
    ids=["plain text beyond this machine", "a key without a certificate", "TLS files without TLS", "no scheme"],
)
def test_is_refused(options: list[str]):
    with pytest.raises(UsageError, match="mqtt"):
        settings_of(*options)
