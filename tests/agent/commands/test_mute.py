"""`penstock mute` and the file of rules: added, listed, removed, taken up by whoever reads, never half."""

from __future__ import annotations

import argparse
import json
import threading

import pytest

from agent.commands import mute
from agent.state.rules import RULES_FILE, RulesFile
from contracts.errors import DataMissing, UsageError
from detection.rules import MAX_MUTES, RulesState
from detection.state import StateRefused


def mute_command(folder, *words):
    parser = argparse.ArgumentParser()
    mute.add_arguments(parser)
    return mute.run(parser.parse_args([*words, "--state-dir", str(folder)]))


def test_a_mute_is_added_listed_and_removed(tmp_path, capsys):
    mute_command(tmp_path, "add", "--device", "192.168.1.30", "--class", "scan", "--for", "2h", "--note", "inventory")
    name = capsys.readouterr().out.split()[0]

    mute_command(tmp_path, "list", "--json")
    shown = json.loads(capsys.readouterr().out)
    assert (shown["id"], shown["attack_class"], shown["note"]) == (name, "scan", "inventory")
    assert shown["expires_us"] - shown["created_us"] == 2 * 3600 * 1_000_000

    mute_command(tmp_path, "remove", name)
    mute_command(tmp_path, "list")
    assert capsys.readouterr().out.endswith("nothing is muted\n")


def test_a_running_agent_takes_up_a_change_and_keeps_its_rules_without_one(tmp_path):
    file = RulesFile(tmp_path / RULES_FILE)
    before = file.current()

    mute_command(tmp_path, "add", "--peer", "192.168.1.5")
    after = file.current()

    assert (len(before), len(after)) == (0, 1)
    assert file.current() is after


def test_rules_survive_a_restart(tmp_path):
    mute_command(tmp_path, "add", "--device", "aa:bb:cc:dd:ee:ff")

    assert RulesFile(tmp_path / RULES_FILE).current().state.mutes[0].device == "aa:bb:cc:dd:ee:ff"


@pytest.mark.parametrize("raw", [b"", b"{}}", b'{"format": 2}', b'{"mutes": [{}]}', b"\x00" * 100])
def test_a_broken_file_leaves_the_last_good_rules_and_says_so(tmp_path, raw):
    mute_command(tmp_path, "add", "--class", "flood")
    file = RulesFile(tmp_path / RULES_FILE)
    good = file.current()

    (tmp_path / RULES_FILE).write_bytes(raw)

    assert file.current() is good
    assert RULES_FILE in file.trouble
    with pytest.raises(StateRefused, match=RULES_FILE):
        mute_command(tmp_path, "add", "--class", "scan")
    assert (tmp_path / RULES_FILE).read_bytes() == raw


def test_a_mute_of_everything_is_refused(tmp_path):
    with pytest.raises(UsageError, match="mute of everything"):
        mute_command(tmp_path, "add", "--for", "1h")


def test_removing_what_is_not_there_says_so(tmp_path):
    with pytest.raises(DataMissing, match="no rule m-00000000"):
        mute_command(tmp_path, "remove", "m-00000000")


def test_there_are_only_so_many_mutes_and_expired_ones_make_room(tmp_path):
    file = RulesFile(tmp_path / RULES_FILE)
    one = mute.Mute(id="m-00000000", device="10.0.0.1", created_us=0, expires_us=250_000_000_000_000_000)
    many = [one.model_copy(update={"id": f"m-{n:08x}"}) for n in range(MAX_MUTES)]
    file.change(lambda _: RulesState(mutes=many), now_us=0)
    with pytest.raises(UsageError, match="remove one first"):
        mute_command(tmp_path, "add", "--class", "scan")

    file.change(lambda _: RulesState(mutes=[*many[1:], one.model_copy(update={"expires_us": 1})]), now_us=0)
    mute_command(tmp_path, "add", "--class", "scan")

    assert len(file.current()) == MAX_MUTES


def test_two_commands_at_once_lose_nothing(tmp_path):
    threads = [threading.Thread(target=mute_command, args=(tmp_path, "add", "--peer", f"10.0.0.{n}")) for n in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    assert len(RulesFile(tmp_path / RULES_FILE).current()) == 8


@pytest.mark.parametrize("text", ["", "5", "h", "0s", "400d", "1.5h", "-1h"])
def test_a_time_that_is_none_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError):
        mute.duration_s(text)
