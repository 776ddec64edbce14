"""agent.toml, conf.d, environment, command line: who wins, and the one line that says what is wrong and where."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from agent.config import AgentConfig, load_config
from contracts.errors import ConfigError, UsageError

BASE = '[capture]\ninterfaces = ["eth0"]\n'
Load = Callable[..., AgentConfig]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Give a function that loads a text as agent.toml, with files of conf.d, an environment and overrides."""

    def load_(
        text: str = BASE,
        *,
        conf_d: Mapping[str, str] | None = None,
        environ: Mapping[str, str] | None = None,
        overrides: Mapping[str, object] | None = None,
    ) -> AgentConfig:
        file, folder = tmp_path / "agent.toml", tmp_path / "conf.d"
        file.write_text(text)
        folder.mkdir(exist_ok=True)
        for name, more in (conf_d or {}).items():
            (folder / name).write_text(more)
        return load_config(file, conf_d=folder, environ=environ or {}, overrides=overrides or {})

    return load_


def complaint(load: Load, text: str = BASE, error: type[Exception] = ConfigError, **others: object) -> str:
    """Return what is said of a configuration, without the folder its file stands in."""
    with pytest.raises(error) as caught:
        load(text, **others)
    said = str(caught.value)
    assert "\n" not in said
    return re.sub(r"\S*/(agent\.toml|conf\.d)", r"\1", said)


def test_a_file_that_names_interfaces_is_enough(load: Load):
    config = load()

    assert config.capture.interfaces == ("eth0",)
    assert config.scoring.batch_windows == 256
    assert config.outbox_path == Path("/var/lib/penstock/outbox.db")


def test_later_wins_file_conf_d_environment_command_line(load: Load):
    text = BASE + "[scoring]\nbatch_windows = 1\ndeadline_ms = 1\nshadow_windows = 1\nmax_waiting_windows = 1000\n"

    config = load(
        text,
        conf_d={
            "20-b.toml": "[scoring]\ndeadline_ms = 3\nshadow_windows = 3",
            "10-a.toml": "[scoring]\ndeadline_ms = 2\nshadow_windows = 2",
            ".hidden.toml": "[scoring]\ndeadline_ms = 9",
            "README": "not toml at all [",
        },
        environ={"PENSTOCK_SCORING__SHADOW_WINDOWS": "4", "PENSTOCK_SHARED": "../shared", "HOME": "/x"},
        overrides={"scoring.max_waiting_windows": 5},
    )

    scoring = config.scoring
    assert (scoring.batch_windows, scoring.deadline_ms, scoring.shadow_windows) == (1, 3, 4)
    assert scoring.max_waiting_windows == 5


def test_a_list_is_replaced_and_never_added_to(load: Load):
    config = load(conf_d={"a.toml": '[capture]\ninterfaces = ["wlan0", "eth1"]'})

    assert config.capture.interfaces == ("wlan0", "eth1")


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("GATEWAY__ID", "1234", "1234"),
        ("GATEWAY__ID", '"cellar"', "cellar"),
        ("CAPTURE__FILTER", "not port 22", "not port 22"),
        ("CAPTURE__INTERFACES", '["wlan0"]', ("wlan0",)),
        ("CAPTURE__PROMISCUOUS", "false", False),
        ("SCORING__INCIDENT_QUIET_S", "60", 60.0),
        ("EVE__PATH", "/var/log/eve.json", Path("/var/log/eve.json")),
    ],
)
def test_a_variable_is_toml_or_else_a_text(load: Load, name: str, text: str, value: object):
    config = load(environ={f"PENSTOCK_{name}": text})

    section, _, key = name.lower().partition("__")
    assert getattr(getattr(config, section), key) == value


def test_no_file_at_all_is_well_where_the_command_line_says_enough():
    config = load_config(None, environ={}, overrides={"capture.interfaces": ["lo"]})

    assert config.capture.interfaces == ("lo",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", 'agent.toml: capture.interfaces: missing, wanted a list of names of interfaces, as ["eth0"]'),
        ("[captur]\n", "agent.toml:1: captur: unknown section, wanted capture?"),
        (
            BASE + "[scoring]\n\ndeadline = 20\n",
            "agent.toml:5: scoring.deadline: unknown key, wanted scoring.deadline_ms?",
        ),
        (
            BASE + "[scoring]\ndeadline_ms = 0\n",
            "agent.toml:4: scoring.deadline_ms: 0, wanted a whole number from 1 to 1,000",
        ),
        (
            BASE + '[scoring]\ndeadline_ms = "20"\n',
            "agent.toml:4: scoring.deadline_ms: '20', wanted a whole number from 1 to 1,000",
        ),
        (
            BASE + "promiscuous = 1\n",
            "agent.toml:3: capture.promiscuous: 1, wanted true or false",
        ),
        (
            BASE + "[judgement]\nfalse_incidents_per_day = nan\n",
            "agent.toml:4: judgement.false_incidents_per_day: nan, wanted a number above 0 and up to 1,000",
        ),
        (
            BASE + '[scoring]\nengine = "gpu"\n',
            """agent.toml:4: scoring.engine: 'gpu', wanted one of "auto", "cpu", "tensorrt\"""",
        ),
        (
            BASE + "block_count = 4096\nblock_bytes = 1048576\n",
            "agent.toml:3: capture.block_count: 4,096, wanted at most 1,024 of 1,048,576 octets",
        ),
        ("capture = 5\n", "agent.toml: capture: 5, wanted a table: [capture] and its keys below"),
        (
            BASE + '[mqtt]\nurl = "mqtt://broker.lan"\n',
            "agent.toml:4: mqtt.url: mqtt:// to broker.lan, wanted mqtts://, or allow_plaintext = true",
        ),
        (BASE + "[eve]\npath = 2026-01-01\n", "agent.toml:4: eve.path: datetime.date(2026, 1, 1), wanted an absolute"),
        (
            BASE + '[eve]\npath = "eve.json"\n',
            "agent.toml:4: eve.path: 'eve.json', wanted an absolute path without ..",
        ),
    ],
)
def test_what_is_wrong_is_said_with_place_key_value_and_what_is_wanted(load: Load, text: str, said: str):
    assert complaint(load, text).startswith(said)


def test_a_variable_that_is_wrong_is_named(load: Load):
    said = complaint(load, environ={"PENSTOCK_MQTT__IN_FLIGHT": "0"})

    assert said == "environment: PENSTOCK_MQTT__IN_FLIGHT: mqtt.in_flight: 0, wanted a whole number from 1 to 1,000"


@pytest.mark.parametrize("name", ["PENSTOCK_MQT__URL", "PENSTOCK_MQTT__URI", "PENSTOCK_MQTT__", "PENSTOCK_MQ_TT__URL"])
def test_a_variable_nobody_knows_is_refused(load: Load, name: str):
    assert complaint(load, environ={name: "x"}).startswith(f"environment: {name}: mq")


def test_the_file_of_conf_d_that_is_wrong_is_named_with_its_line(load: Load):
    said = complaint(load, conf_d={"10.toml": "[scoring]\ndeadline_ms = 5", "20.toml": "\n[scoring]\ndeadline_ms = -1"})

    assert said.startswith("conf.d/20.toml:3: scoring.deadline_ms: -1")


def test_what_is_wrong_on_the_command_line_is_a_mistake_of_usage(load: Load):
    said = complaint(load, error=UsageError, overrides={"scoring.deadline_ms": 0})

    assert said == "command line: scoring.deadline_ms: 0, wanted a whole number from 1 to 1,000"


def test_of_several_mistakes_one_is_told_and_the_others_counted(load: Load):
    said = complaint(load, BASE + "[scoring]\nbatch_windows = 0\ndeadline_ms = 0\nshadow_windows = -1\n")

    assert said.endswith("wanted a whole number from 1 to 4,096 (and 2 more)")


@pytest.mark.parametrize(
    "text",
    [
        '[mqtt]\nurl = "mqtts://me:hunter2@broker lan"\n',
        '[mqtt]\nurl = "mqtt://me:hunter2@broker.lan"\n',
        '[mqtt]\nurl = "mqtts://me:hunter2@[::1"\n',
        '[mqtt]\npassword = "hunter2"\n',
        'password = "hunter2"\n',
    ],
)
def test_no_password_is_shown(load: Load, text: str):
    assert "hunter2" not in complaint(load, text)


def test_a_password_in_the_address_is_not_among_the_settings_shown(load: Load):
    config = load(BASE + '[mqtt]\nurl = "mqtts://me:hunter2@broker.lan"\n')

    assert config.shown()["mqtt"]["url"] == "mqtts://broker.lan"


@pytest.mark.parametrize(
    ("section", "text"),
    [
        ("metrics", 'username = "a:b"\npassword_file = "x"'),
        ("metrics", 'password_file = "x"'),
        ("metrics", 'key_file = "/x"'),
        ("metrics", 'listen = "localhost:9744"'),
        ("metrics", 'listen = "127.0.0.1:65536"'),
        ("metrics", 'listen = "[::1]"'),
        ("mqtt", 'key_file = "/x"'),
        ("mqtt", 'url = "mqtt://127.0.0.1"\nca_file = "/x"'),
        ("mqtt", 'url = "mqtts://b"\npassword_file = "x"'),
        ("mqtt", 'url = "mqtts://b/topic"'),
        ("mqtt", 'url = "mqtts://b:0"'),
        ("mqtt", 'url = "http://b"'),
        ("syslog", 'address = "/dev/log"'),
        ("syslog", 'address = "host"\ntransport = "unix"'),
        ("syslog", 'address = "host"\nca_file = "/x"'),
        ("syslog", 'address = "ho st"'),
        ("status", f'socket = "/{"x" * 107}"'),
        ("scoring", "batch_windows = 10\nmax_waiting_windows = 9"),
        ("capture", 'interfaces = ["eth0", "eth0"]'),
        ("capture", "interfaces = []"),
        ("capture", 'interfaces = ["a name of more than 15"]'),
        ("capture", 'interfaces = ["eth0"]\nhome_nets = "autos"'),
        ("capture", 'interfaces = ["eth0"]\nnever_ban = ["10.0.0.256"]'),
        ("gateway", 'id = "a/b"'),
        ("gateway", 'id = "a\\n"'),
        ("gateway", 'state_dir = "/var/../etc"'),
    ],
)
def test_settings_that_cannot_work_are_refused_under_their_key(load: Load, section: str, text: str):
    said = complaint(load, (BASE if section != "capture" else "") + f"[{section}]\n{text}\n")

    assert re.match(rf"agent\.toml(:\d+)?: {section}\.\w+: .*wanted ", said), said


@pytest.mark.parametrize("listen", ["127.0.0.1:9744", "[::1]:9744", "0.0.0.0:1", "[2001:db8::1]:65535"])
def test_addresses_of_both_families_can_be_listened_on(load: Load, listen: str):
    assert load(BASE + f'[metrics]\nlisten = "{listen}"\n').metrics.listen == listen


def test_a_configuration_cannot_be_changed(load: Load):
    with pytest.raises(ValueError, match="frozen"):
        load().scoring.batch_windows = 1  # type: ignore[misc]


def test_reading_depends_on_nothing_but_what_is_handed_in(load: Load, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(os.environ, "PENSTOCK_SCORING__DEADLINE_MS", "999")

    assert load().scoring.deadline_ms == 50
