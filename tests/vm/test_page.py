"""What a guest printed becomes rows; a check that failed and a run that broke off are told, whatever else held."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.deploy.steps import steps
from tests.vm.__main__ import LIVES, PACKAGE_OF
from tests.vm.page import Row, doctor_of, faults, page, rows_of, section, sections_of, table

HERE = Path(__file__).parent
SAID = (
    "0 s: install\r\nROW\tservice active\tok\tactive\r\nchatter\tof\tothers\n"
    "ROW\texposure\tBAD\t9.6 | bad\nDOCTOR\tok    clock\n3 s: end\n"
)


def test_rows_are_read_among_everything_else_a_machine_prints():
    assert rows_of(SAID) == [Row("service active", "ok", "active"), Row("exposure", "BAD", "9.6 | bad")]
    assert doctor_of(SAID) == ["ok    clock"]


def test_a_check_that_did_not_hold_is_a_fault_and_so_is_an_end_never_reached():
    whole, broken_off = SAID, SAID.replace("3 s: end\n", "")

    assert faults(rows_of(whole), said=whole) == ["exposure: 9.6 | bad"]
    assert faults(rows_of(broken_off), said=broken_off)[1:] == ["the run broke off after exposure"]


def test_what_was_not_asked_is_shown_and_neither_held_nor_failed():
    said = SAID.replace("BAD", "-")

    assert faults(rows_of(said), said=said) == []
    assert "1 of 1 checks hold." in section(said, facts={})
    assert "| exposure | - |" in section(said, facts={})


def test_a_guest_that_said_nothing_did_not_succeed():
    assert faults([], said="") == ["the run broke off after nothing"]


def test_the_table_and_the_page_show_every_row_and_how_many_held():
    shown = section(SAID, facts={"guest": "Debian"})

    assert list(table(rows_of(SAID)))[1] == "BAD exposure        9.6 | bad"
    assert "1 of 2 checks hold." in shown
    assert "| exposure | BAD | 9.6 \\| bad |" in shown
    assert "- guest: Debian\n" in shown


def test_what_a_page_says_of_one_life_stays_when_another_is_run_again():
    written = page({"The script": section(SAID, facts={"commit": "abc"}), "The package": section("", facts={})})

    kept = sections_of(written)

    assert [*kept] == ["The script", "The package"]
    assert "- commit: abc\n" in kept["The script"]
    assert page(kept) == written
    assert sections_of("") == {}


@pytest.mark.parametrize("script", sorted(HERE.glob("*.sh")), ids=lambda path: path.name)
def test_shellcheck_has_nothing_to_say(script: Path):
    checker = shutil.which("shellcheck")
    if checker is None:
        pytest.skip("no shellcheck")

    # SC1091: guest.sh stands elsewhere in the guest. SC2034: its variables are used by what sources it.
    command = [checker, "-s", "sh", "-e", "SC1091,SC2034", script]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    assert run.stdout == ""


@pytest.mark.parametrize("life", ["life_install.sh", "life_deb.sh"])
def test_each_life_goes_through_every_part_and_says_its_end(life: str):
    parts = ("serving", "judged ", "examined", "reloaded", "credential", "killed", "whole_packets", "note end")

    text = (HERE / life).read_text()

    assert [part for part in parts if f"\n{part}" not in text] == []


@pytest.mark.parametrize("life", ["life_aggregator.sh", "life_aggregator_deb.sh"])
def test_each_life_of_an_aggregator_goes_through_every_part_and_says_its_end(life: str):
    parts = ("incomplete", "completed", "judged ", "examined", "struck", "note upgrade", "nothing_left", "note end")

    text = (HERE / life).read_text()

    assert [part for part in parts if f"\n{part}" not in text] == []


def test_both_run_every_step_that_is_not_a_gateways():
    text = (HERE / "aggregator.sh").read_text()

    assert [place for place, _ in steps()] == ["authority", *["server"] * 4, "gateway", "server"]
    assert [part for part in ("for number in 0 1 2 3 4;", "/mnt/steps/6.sh") if part not in text] == []


def test_every_life_has_its_script_and_its_place_on_the_page():
    scripts = {path.stem.removeprefix("life_") for path in HERE.glob("life_*.sh")}

    assert scripts == {*LIVES, "aarch64"}
    assert {*PACKAGE_OF} == {*LIVES}
