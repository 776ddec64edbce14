"""The units: systemd itself finds nothing to say against them, their exposure is bounded, their traps stay closed."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from agent.learning.learning import WISHES_APART_S
from contracts.agent_card import CARD_FILE, FOLDER, TAKEN_FILE, WANTED_FILE

ROOT = Path(__file__).resolve().parents[2]
SYSTEMD = ROOT / "systemd"
UNITS = [
    "penstock.service",
    "penstock-tensorrt.service",
    "penstock-offloads@.service",
    "penstock-finetune.service",
    "penstock-aggregator.service",
]
STARTERS = ["penstock-finetune.timer", "penstock-finetune.path"]
DROP_INS = sorted(path.stem for path in (SYSTEMD / "penstock.service.d").glob("*.conf"))
MOST_EXPOSURE = 20  # tenths


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("no systemd-analyze")
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=120, check=False)


def settings(text: str) -> list[tuple[str, str]]:
    return re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE)


def planted(folder: Path, drop_in: str = "") -> Path:
    """Return a folder with the units, whose programs are there, and at most one drop-in."""
    for unit in [*UNITS, *STARTERS]:
        text = (SYSTEMD / unit).read_text()
        (folder / unit).write_text(re.sub(r"^(ExecStart=-?)\S+", r"\1/bin/true", text, flags=re.MULTILINE))
    if drop_in:
        (folder / "penstock.service.d").mkdir()
        shutil.copy(SYSTEMD / "penstock.service.d" / f"{drop_in}.conf", folder / "penstock.service.d")
    return folder


@pytest.mark.parametrize("unit", [*UNITS, *STARTERS])
def test_verify_is_silent(tmp_path: Path, unit: str):
    run = analyze("verify", "--man=no", str(planted(tmp_path) / unit))

    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


@pytest.mark.parametrize("drop_in", DROP_INS)
def test_verify_is_silent_with_each_drop_in(tmp_path: Path, drop_in: str):
    run = analyze("verify", "--man=no", str(planted(tmp_path, drop_in) / "penstock.service"))

    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


def test_verify_does_speak_up_against_a_setting_that_is_none(tmp_path: Path):
    unit = planted(tmp_path) / "penstock.service"
    unit.write_text(unit.read_text().replace("ProtectHome=", "ProtectHouse="))

    assert "ProtectHouse" in analyze("verify", "--man=no", str(unit)).stderr


@pytest.mark.parametrize("unit", UNITS)
def test_no_unit_is_exposed_above_two(tmp_path: Path, unit: str):
    run = analyze("security", "--offline=true", f"--threshold={MOST_EXPOSURE}", str(planted(tmp_path) / unit))

    assert run.returncode == 0, run.stdout[-400:]


@pytest.mark.parametrize("drop_in", DROP_INS)
def test_nor_is_the_agent_with_any_drop_in(tmp_path: Path, drop_in: str):
    folder = planted(tmp_path, drop_in)

    run = analyze("security", "--offline=true", f"--threshold={MOST_EXPOSURE}", str(folder / "penstock.service"))

    assert run.returncode == 0, run.stdout[-400:]


def test_a_softer_unit_does_exceed_the_threshold(tmp_path: Path):
    unit = planted(tmp_path) / "penstock.service"
    unit.write_text(re.sub(r"^(SystemCallFilter|CapabilityBoundingSet)=.*\n", "", unit.read_text(), flags=re.M))

    run = analyze("security", "--offline=true", f"--threshold={MOST_EXPOSURE}", str(unit))

    assert run.returncode != 0


def test_the_agent_has_one_capability_and_keeps_what_scapy_needs():
    unit = dict(settings((SYSTEMD / "penstock.service").read_text()))

    assert (unit["AmbientCapabilities"], unit["CapabilityBoundingSet"]) == ("CAP_NET_RAW", "CAP_NET_RAW")
    assert {"AF_NETLINK", "AF_PACKET"} <= set(unit["RestrictAddressFamilies"].split())
    assert (unit["MemoryDenyWriteExecute"], unit["Type"], unit["User"]) == ("yes", "notify", "penstock")
    assert int(unit["WatchdogSec"]) > 0


def test_a_reload_needs_no_program_but_the_shell():
    assert ("ExecReload", '/bin/sh -c "kill -HUP $MAINPID"') in settings((SYSTEMD / "penstock.service").read_text())


def test_what_a_restart_cannot_mend_is_not_restarted():
    """The codes are those of docs/exit-codes.md: usage, rights, settings or bundle."""
    unit = dict(settings((SYSTEMD / "penstock.service").read_text()))

    assert unit["RestartPreventExitStatus"].split() == ["64", "77", "78"]


def test_a_missing_password_file_starts_with_an_empty_credential():
    unit = settings((SYSTEMD / "penstock.service").read_text())

    assert ("LoadCredential", "mqtt-password:/etc/penstock/mqtt-password") in unit
    assert ("SetCredential", r"mqtt-password:\n") in unit


def test_on_an_old_systemd_no_list_of_calls_depends_on_a_group_it_does_not_know():
    """An allow list whose group is unknown allows what is left of it; 237 lacks these."""
    filters = [value for key, value in settings((SYSTEMD / "penstock.service.d/old-systemd.conf").read_text())
               if key == "SystemCallFilter"]  # fmt: skip

    assert filters[0] == ""  # the unit's own list is forgotten first
    assert filters[1].startswith("~")
    assert not {"@system-service", "@known", "@pkey", "@sandbox"} & set(" ".join(filters).replace("~", "").split())


def test_the_worker_runs_as_the_agent_does_and_cannot_reach_the_network():
    """The agent believes a worker of its own user, or root's, and no other."""
    agent, worker = (dict(settings((SYSTEMD / unit).read_text())) for unit in UNITS[:2])

    assert (worker["User"], worker["PrivateNetwork"]) == (agent["User"], "yes")
    assert "MemoryDenyWriteExecute=no" in (SYSTEMD / UNITS[1]).read_text()


def test_the_trainer_runs_below_the_agent_without_network_or_capability():
    agent, trainer = (dict(settings((SYSTEMD / UNITS[place]).read_text())) for place in (0, 3))

    assert (trainer["Type"], trainer["User"], trainer["PrivateNetwork"]) == ("oneshot", agent["User"], "yes")
    assert trainer["CapabilityBoundingSet"] == ""
    assert int(trainer["Nice"]) > int(agent["Nice"])
    assert int(trainer["OOMScoreAdjust"]) > int(agent["OOMScoreAdjust"])
    assert int(trainer["CPUWeight"]) < 100 > int(trainer["IOWeight"])
    assert int(trainer["MemoryMax"].removesuffix("M")) <= 192
    assert "RestartSec" not in trainer


def test_it_is_started_once_a_day_at_another_time_on_each_gateway_and_when_the_agent_asks():
    timer = dict(settings((SYSTEMD / STARTERS[0]).read_text()))
    paths = [value for key, value in settings((SYSTEMD / STARTERS[1]).read_text()) if key == "PathExists"]

    assert (timer["OnCalendar"], timer["RandomizedDelaySec"], timer["Persistent"]) == ("daily", "4h", "true")
    assert paths == [f"/var/lib/penstock/{FOLDER}/{name}" for name in (WANTED_FILE, TAKEN_FILE)]
    assert f"ConditionPathExists=/var/lib/penstock/{FOLDER}/{CARD_FILE}" in (SYSTEMD / UNITS[3]).read_text()


def test_however_often_the_agent_asks_systemd_does_not_give_the_trainer_up():
    """A unit that a path unit starts too often fails, the path unit with it, and nothing the agent does mends that."""
    text = (SYSTEMD / "penstock-finetune.service").read_text()
    unit = dict(settings(text))
    asked = int(unit["StartLimitIntervalSec"]) / WISHES_APART_S + 1

    # Each is done twice where every run is killed; the rest is the timer's, a restarted agent's and a person's.
    assert 2 * asked <= int(unit["StartLimitBurst"]) - 5
    assert ("Wants", "penstock-finetune.path") in settings(text)
    assert "TriggerLimit" not in "".join(
        key for key, _ in settings((SYSTEMD / "penstock-finetune.path").read_text())
    )  # fmt: skip


def test_the_aggregator_has_no_capability_and_a_user_of_its_own():
    """Its keys sign what gateways run: no gateway's agent may read them."""
    text = (SYSTEMD / "penstock-aggregator.service").read_text()
    unit = dict(settings(text))

    assert ("CapabilityBoundingSet", "") in settings(text)
    assert unit["User"] == unit["Group"] == unit["StateDirectory"] == "penstock-aggregator"
    assert (unit["StateDirectoryMode"], unit["UMask"], unit["Type"]) == ("0700", "0077", "notify")
    assert "AF_PACKET" not in unit["RestrictAddressFamilies"]
    assert unit["RestartPreventExitStatus"].split() == ["64", "65", "66", "78"]
    users = (SYSTEMD / "sysusers.d" / "penstock-aggregator.conf").read_text()
    assert re.search(rf"^u {unit['User']} - ", users, re.MULTILINE)
