"""Hostile files: each is refused in one line, soon, whatever it is."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from agent.config import load_config
from agent.config.reading import MAX_FILE_BYTES, MAX_FILES, documents, read_document
from contracts.errors import ConfigError

BASE = b'[capture]\ninterfaces = ["eth0"]\n'
DEEP_LINES = b"a=" + b"[\n" * 50_000
DOTTED = b"\n".join(b"b%d." % number + b".".join([b"a"] * 2000) + b" = 1" for number in range(60))


def refused(path: Path, conf_d: Path | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(path, conf_d=conf_d, environ={}, overrides={})
    said = str(caught.value)
    assert "\n" not in said
    assert said.startswith(str(path if conf_d is None else conf_d))
    assert caught.value.exit_code == 78
    return said


@pytest.mark.parametrize(
    ("octets", "said"),
    [
        (b"#" * (MAX_FILE_BYTES + 1), "more than 262,144 octets"),
        (b"\x7fELF\x02\x01\x01" + bytes(100), "no TOML"),
        (bytes(range(256)), "octet 128 is 0x80, wanted text in UTF-8"),
        (b"\xff\xfe[\x00c\x00]\x00", "octet 0 is 0xff, wanted text in UTF-8"),
        (b"\xef\xbb\xbf" + BASE, "no TOML"),
        (DEEP_LINES, "no TOML: nested too deeply"),
        (b"a = [[[[[[1]]]]]]", "nested deeper than 3"),
        (b"a = " + b"{a=" * 600, "no TOML: nested too deeply"),
        (b"a" * 5000, "a line of 5,000 letters"),
        (DOTTED, "more than 16 dots"),
        (b".".join([b"a"] * 500) + b" = 1", "more than 16 dots"),
        (b"[" + b" . ".join([b"a"] * 500) + b"]", "more than 16 dots"),
        (b"[capture]\n[capture]\n", "no TOML"),
        (b"a = 0000-00-00", "no TOML"),
        (b"a = 99999-99-99T99:99:99Z", "no TOML"),
    ],
    ids=lambda value: repr(value[:12]) if isinstance(value, bytes) else "",
)
def test_a_file_that_is_no_configuration_is_refused(tmp_path: Path, octets: bytes, said: str):
    file = tmp_path / "agent.toml"
    file.write_bytes(octets)

    assert said in refused(file)


def test_a_number_of_four_thousand_digits_is_refused_and_shown_short(tmp_path: Path):
    file = tmp_path / "agent.toml"
    file.write_bytes(BASE + b"snap_length_bytes = " + b"9" * 4000)

    assert len(refused(file)) < 400


@pytest.mark.parametrize("what", ["fifo", "folder", "absent", "device", "link to a device", "loop", "socket"])
def test_what_is_no_regular_file_is_refused_and_not_waited_for(tmp_path: Path, what: str):
    path = tmp_path / "agent.toml"
    if what == "fifo":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    elif what == "device":
        path = Path("/dev/zero")
    elif what == "link to a device":
        path.symlink_to("/dev/zero")
    elif what == "loop":
        path.symlink_to(path)
    elif what == "socket":
        import socket

        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(path))

    assert "cannot be read" in refused(path)


def test_a_link_to_a_file_is_followed(tmp_path: Path):
    (tmp_path / "real.toml").write_bytes(BASE)
    (tmp_path / "agent.toml").symlink_to(tmp_path / "real.toml")

    assert read_document(tmp_path / "agent.toml").tree == {"capture": {"interfaces": ["eth0"]}}


def test_a_file_that_anybody_may_write_is_refused(tmp_path: Path):
    file = tmp_path / "agent.toml"
    file.write_bytes(BASE)
    file.chmod(0o666)

    assert "mode 0666, wanted none that others may write" in refused(file)


def test_a_folder_that_anybody_may_write_is_refused(tmp_path: Path):
    (tmp_path / "agent.toml").write_bytes(BASE)
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d").chmod(0o777)

    assert "mode 0777" in refused(tmp_path / "agent.toml", tmp_path / "conf.d")


def test_a_folder_of_very_many_files_is_refused(tmp_path: Path):
    (tmp_path / "agent.toml").write_bytes(BASE)
    (tmp_path / "conf.d").mkdir()
    for number in range(MAX_FILES + 1):
        (tmp_path / "conf.d" / f"{number}.toml").touch()

    assert "65 files, wanted at most 64" in refused(tmp_path / "agent.toml", tmp_path / "conf.d")


def test_a_hostile_file_in_conf_d_is_named(tmp_path: Path):
    (tmp_path / "agent.toml").write_bytes(BASE)
    (tmp_path / "conf.d").mkdir()
    os.mkfifo(tmp_path / "conf.d" / "10-pipe.toml")

    assert "conf.d/10-pipe.toml: cannot be read" in refused(tmp_path / "agent.toml", tmp_path / "conf.d")


def test_no_folder_of_further_files_is_none_at_all(tmp_path: Path):
    (tmp_path / "agent.toml").write_bytes(BASE)

    assert len(documents(tmp_path / "agent.toml", tmp_path / "conf.d")) == 1


def test_lines_of_settings_are_found_under_their_own_section(tmp_path: Path):
    file = tmp_path / "agent.toml"
    file.write_bytes(b'# format = "x"\n[stdout]\nformat = "eve"\n[ "mqtt" ]\n  format = "ecs"\n')

    document = read_document(file)

    assert (document.line_of("stdout", "format"), document.line_of("mqtt", "format")) == (3, 5)
    assert (document.line_of("mqtt"), document.line_of("eve", "path")) == (4, None)


def test_two_hundred_files_of_noise_are_refused_or_read_in_one_line(tmp_path: Path):
    chance = random.Random(20)
    alphabet = b"[]{}=.,#\"'\n\\ abcufi0123456789-:+_TZ\r\x00\xc3\xa4"
    file = tmp_path / "agent.toml"
    for _ in range(200):
        file.write_bytes(BASE + bytes(chance.choices(alphabet, k=chance.randrange(400))))
        said = ""
        try:
            load_config(file, environ={}, overrides={})
        except ConfigError as exc:
            said = str(exc)
        assert "\n" not in said
