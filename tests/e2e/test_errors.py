"""What goes wrong: one clear line on standard error, the documented exit code, and what was read is reported."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import struct
import subprocess
import time
from pathlib import Path

import pytest

from contracts.bundle import MANIFEST, MODEL
from tests.bundles import write_refusal_bundle, write_wild_bundle
from tests.e2e.conftest import TIMEOUT_S, Run, environment, until_at_work
from tests.flowfeatures.packets import RAW, pcap_bytes


def one_line(errors: str) -> str:
    (line,) = errors.splitlines()
    assert line.startswith("penstock: ")
    return line


@pytest.fixture
def broken(tmp_path: Path, capture: Path) -> dict[str, Path]:
    """Return captures that cannot be read, by what is wrong with them."""
    whole = capture.read_bytes()
    contents = {
        "empty": b"",
        "not a capture": b"GIF89a" + bytes(100),
        "header cut": whole[:20],
        "truncated": whole[: len(whole) // 2 + 3],
        "unknown link type": whole[:20] + struct.pack("<I", 147) + whole[24:],
    }
    paths = {"missing": tmp_path / "missing.pcap", "a directory": tmp_path}
    for name, content in contents.items():
        paths[name] = tmp_path / f"{name}.pcap"
        paths[name].write_bytes(content)
    return paths


WRONG = {
    "missing": (66, "No such file"),
    "a directory": (66, ""),
    "empty": (65, "empty"),
    "not a capture": (65, "not a capture"),
    "header cut": (65, "ends inside"),
    "truncated": (65, "the file ends here"),
    "unknown link type": (65, "link type 147"),
}


@pytest.mark.parametrize("subcommand", ["replay", "features"])
@pytest.mark.parametrize("what", WRONG)
def test_a_capture_that_is(penstock: Run, broken: dict[str, Path], bundle: Path, what: str, subcommand: str):
    code, said = WRONG[what]
    options = ["--bundle", bundle] if subcommand == "replay" else ["-o", "flows.csv"]

    done = penstock(subcommand, broken[what], *options)

    line = one_line(done.stderr)
    assert str(broken[what]) in line
    assert said in line
    assert done.returncode == code


def test_what_was_read_of_a_truncated_capture_is_reported(penstock: Run, broken: dict[str, Path], bundle: Path):
    done = penstock("replay", broken["truncated"], "--bundle", bundle, "--json")

    summary = json.loads(done.stdout)
    assert 50 < summary["packets"] < 240
    assert summary["windows"] > 0
    assert summary["exit_code"] == done.returncode == 65
    assert str(broken["truncated"]) in summary["errors"][0]


def test_the_rows_of_a_truncated_capture_are_written(penstock: Run, broken: dict[str, Path], tmp_path: Path):
    done = penstock("features", broken["truncated"], "-o", "flows.csv")

    assert done.returncode == 65
    assert len((tmp_path / "flows.csv").read_text().splitlines()) > 10


def test_a_capture_that_cannot_be_opened_leaves_an_older_csv_alone(
    penstock: Run, broken: dict[str, Path], tmp_path: Path
):
    (tmp_path / "flows.csv").write_text("older")

    penstock("features", broken["missing"], "-o", "flows.csv")

    assert (tmp_path / "flows.csv").read_text() == "older"


def test_the_other_captures_are_read_and_the_first_error_gives_the_code(
    penstock: Run, broken: dict[str, Path], capture: Path, bundle: Path
):
    done = penstock("replay", broken["empty"], capture, broken["missing"], "--bundle", bundle, "--json")

    assert done.returncode == 65
    assert len(done.stderr.splitlines()) == 2
    assert json.loads(done.stdout)["incidents"] == 1


def test_a_file_name_cannot_steer_the_terminal(penstock: Run, bundle: Path):
    done = penstock("replay", "evil\x1b[2J\n.pcap", "--bundle", bundle)

    assert "evil\\x1b[2J\\n.pcap" in one_line(done.stderr)


def test_no_bundle_is_there(penstock: Run, capture: Path, tmp_path: Path):
    done = penstock("replay", capture, "--bundle", tmp_path / "absent")

    assert f"cannot read {tmp_path}/absent/manifest.json" in one_line(done.stderr)
    assert done.returncode == 78


def test_a_manifest_that_is_no_json(penstock: Run, capture: Path, tmp_path: Path):
    folder = write_refusal_bundle(tmp_path / "b")
    (folder / MANIFEST).write_text("{")

    done = penstock("replay", capture, "--bundle", folder)

    assert "is not JSON" in one_line(done.stderr)
    assert done.returncode == 78


def test_a_model_that_is_not_the_one_in_the_manifest(penstock: Run, capture: Path, tmp_path: Path):
    folder = write_refusal_bundle(tmp_path / "b")
    (folder / MODEL).write_bytes(b"another")

    done = penstock("replay", capture, "--bundle", folder)

    assert "sha256" in one_line(done.stderr)
    assert done.returncode == 78


def test_a_bundle_of_another_schema_names_both(penstock: Run, capture: Path, tmp_path: Path):
    folder = write_refusal_bundle(tmp_path / "b", schema_id="0123456789abcdef")

    done = penstock("replay", capture, "--bundle", folder, "--eve", "eve.json")

    assert "schema_id '0123456789abcdef', this build wants" in one_line(done.stderr)
    assert done.returncode == 78
    assert not (tmp_path / "eve.json").exists(), "nothing is begun before the bundle is known to be good"


def test_a_broker_that_is_absent_past_the_wait_leaves_the_alerts_in_a_named_outbox(
    penstock: Run, capture: Path, bundle: Path, tmp_path: Path
):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound and not listening: a port where nobody answers
        url = f"mqtt://127.0.0.1:{closed.getsockname()[1]}"
        done = penstock(
            "replay", capture, "--bundle", bundle, "--mqtt", url, "--mqtt-wait", "0.5", "--outbox", "o.db", "--json"
        )

    assert "2 alerts undelivered, kept in o.db" in one_line(done.stderr)
    summary = json.loads(done.stdout)
    assert (done.returncode, summary["delivery"]["undelivered"], summary["incidents"]) == (69, 2, 1)
    assert (tmp_path / "o.db").exists()


def test_eve_that_cannot_be_written_is_said_before_anything_is_read(penstock: Run, capture: Path, bundle: Path):
    done = penstock("replay", capture, "--bundle", bundle, "--eve", "absent/eve.json")

    assert "absent/eve.json" in one_line(done.stderr)
    assert (done.returncode, done.stdout) == (73, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_under_eve_still_reports_what_was_found(penstock: Run, capture: Path, bundle: Path):
    done = penstock("replay", capture, "--bundle", bundle, "--eve", "/dev/full", "--json")

    assert "No space left" in one_line(done.stderr)
    assert (done.returncode, json.loads(done.stdout)["incidents"]) == (73, 1)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["replay"],
        ["replay", "x.pcap", "--speed", "0"],
        ["replay", "x.pcap", "--home-net", "home"],
        ["replay", "x.pcap", "--eve", "-", "--json"],
        ["replay", "x.pcap", "--outbox", "o.db"],
        ["replay", "x.pcap", "--mqtt", "http://127.0.0.1"],
        ["replay", "x.pcap", "--gateway", "a/b"],
        ["features", "x.pcap"],
        ["features", "x.pcap", "-o", "f.csv", "--idle-timeout", "-1"],
        ["features", "x.pcap", "-o", "f.csv", "--active-timeout", "1e12"],
        ["features", "x.pcap", "-o", "f.csv", "--compat", "other"],
        ["unknown"],
    ],
    ids=" ".join,
)
def test_a_command_line_that_cannot_work_ends_with_64(penstock: Run, arguments: list[str]):
    done = penstock(*arguments)

    assert done.returncode == 64, done.stderr
    assert done.stderr.splitlines()[-1].startswith("penstock")
    assert "Traceback" not in done.stderr


def test_a_capture_without_packets_is_no_error(penstock: Run, tmp_path: Path, bundle: Path):
    (tmp_path / "raw.pcap").write_bytes(pcap_bytes([], link_type=RAW))

    done = penstock("replay", tmp_path / "raw.pcap", "--bundle", bundle)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("no incidents\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["replay", "c.pcap", "--bundle", "b", "--eve", "c.pcap"],
        ["replay", "c.pcap", "--bundle", "b", "--eve", "b/model.onnx"],
        ["replay", "c.pcap", "--bundle", "b", "--eve", "b/manifest.json"],
        ["replay", "c.pcap", "--bundle", "b", "--mqtt", "mqtt://127.0.0.1:1", "--outbox", "o.db", "--eve", "o.db"],
        ["replay", "c.pcap", "--bundle", "b", "--mqtt", "mqtt://127.0.0.1:1", "--outbox", "o.db", "--eve", "o.db-wal"],
        [
            "replay",
            "c.pcap",
            "--bundle",
            "b",
            "--mqtt",
            "mqtt://u@127.0.0.1:1",
            "--mqtt-password-file",
            "p",
            "--eve",
            "p",
        ],
        ["features", "c.pcap", "-o", "c.pcap"],
    ],
    ids=" ".join,
)
def test_an_output_never_overwrites_what_is_read(penstock: Run, capture: Path, tmp_path: Path, arguments: list[str]):
    write_refusal_bundle(tmp_path / "b")
    (tmp_path / "c.pcap").write_bytes(capture.read_bytes())
    (tmp_path / "o.db").write_bytes(b"alerts nobody has yet")
    (tmp_path / "p").write_text("secret")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    done = penstock(*arguments)

    assert "would overwrite" in one_line(done.stderr)
    assert done.returncode == 64
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("redirection", "code"),
    [(">&-", 0), ("2>&-", 0), (">/dev/full", 73), ("--json >/dev/full", 73), ("--eve - >&-", 0), ("--eve - 2>&-", 0)],
)
def test_a_standard_stream_that_is_closed_or_full_is_no_mistake_of_ours(
    command: list[str], capture: Path, bundle: Path, redirection: str, code: int
):
    line = shlex.join([*command, "replay", str(capture), "--bundle", str(bundle)])

    done = subprocess.run(
        ["sh", "-c", f"{line} {redirection}"], env=environment(), capture_output=True, text=True, check=False
    )

    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert code == 0 or len(done.stderr.splitlines()) == 1


def test_a_pipe_nobody_reads_is_refused_by_a_replay(penstock: Run, capture: Path, bundle: Path, tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")

    done = penstock("replay", capture, "--bundle", bundle, "--eve", tmp_path / "pipe")

    assert done.returncode == 73
    assert "nobody reads this pipe" in one_line(done.stderr)


def test_a_pipe_nobody_reads_ends_at_the_first_ctrl_c(command: list[str], capture: Path, tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    process = subprocess.Popen(
        [*command, "features", str(capture), "-o", str(tmp_path / "pipe")], env=environment(), stderr=subprocess.PIPE
    )
    until_at_work(process)
    time.sleep(2.0)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)

    assert process.returncode == 130


def test_a_model_that_goes_wild_stops_the_run_and_what_was_read_is_reported(
    penstock: Run, capture: Path, tmp_path: Path
):
    done = penstock("replay", capture, "--bundle", write_wild_bundle(tmp_path / "wild"), "--json")

    assert "wanted a number from 0 to 1" in one_line(done.stderr)
    counted = json.loads(done.stdout)
    assert (done.returncode, counted["exit_code"], counted["alerts"]) == (78, 78, 0)
    assert counted["packets"] > 0


def test_a_run_that_reads_nothing_leaves_an_older_eve_json_alone(
    penstock: Run, broken: dict[str, Path], bundle: Path, capture: Path, tmp_path: Path
):
    (tmp_path / "eve.json").write_text("older")
    options = ["--bundle", bundle, "--eve", "eve.json"]

    missing = penstock("replay", broken["missing"], *options)
    no_outbox = penstock("replay", capture, *options, "--mqtt", "mqtt://127.0.0.1:1", "--outbox", tmp_path)

    assert (missing.returncode, no_outbox.returncode) == (66, 74)
    assert (tmp_path / "eve.json").read_text() == "older"


def test_a_run_that_reads_anything_takes_the_older_alerts_away(
    penstock: Run, broken: dict[str, Path], bundle: Path, capture: Path, tmp_path: Path
):
    for _ in range(2):
        penstock("replay", broken["missing"], capture, "--bundle", bundle, "--eve", "eve.json")

    assert len((tmp_path / "eve.json").read_text().splitlines()) == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_standard_error_does_not_change_the_code(
    command: list[str], broken: dict[str, Path], bundle: Path, tmp_path: Path
):
    with open("/dev/full", "wb", buffering=0) as full:
        done = subprocess.run(
            [*command, "replay", str(broken["missing"]), "--bundle", str(bundle)],
            check=False,
            cwd=tmp_path,
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=full,
            timeout=TIMEOUT_S,
        )

    assert done.returncode == 66
