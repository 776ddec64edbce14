"""`penstock feedback` and the record of incidents: from an alert's id to a rule that holds at once."""

from __future__ import annotations

import argparse
import re
import sqlite3
from dataclasses import replace

import numpy as np
import pytest

from agent.commands import feedback
from agent.live.recorder import Recorder
from agent.state import incident_record
from agent.state.incident_record import MAX_INCIDENTS, RECORD_FILE, TRIM_EVERY, IncidentRecord, find_incident
from agent.state.rules import RULES_FILE, RulesFile
from contracts.errors import DataMissing, UsageError
from detection.detector import Detector
from detection.incidents import CALLED_BENIGN
from detection.state import StateRefused
from tests.detection.test_rules import EmbeddingEngine, opened, window
from tests.detection.windows import T0_US, S, make_bundle

SHA = "0" * 64


@pytest.fixture
def clock(monkeypatch):
    """Let commands run a second after the made-up windows began."""
    monkeypatch.setattr(feedback.time, "time_ns", lambda: (T0_US + S) * 1000)


def feedback_command(folder, alert_id, verdict):
    parser = argparse.ArgumentParser()
    feedback.add_arguments(parser)
    return feedback.run(parser.parse_args([alert_id, verdict, "--state-dir", str(folder)]))


def parsed(words):
    parser = argparse.ArgumentParser()
    feedback.add_arguments(parser)
    return parser.parse_args(words)


def recorded(folder):
    """Return a detector's first alert, which the record knows."""
    (update,) = opened(Detector(make_bundle(), EmbeddingEngine()), window())
    record = IncidentRecord(folder / RECORD_FILE)
    record.add(update, bundle_sha256=SHA)
    record.close()
    return update


def incidents_after(folder, *batches):
    rules = RulesFile(folder / RULES_FILE).current()
    return opened(Detector(make_bundle(), EmbeddingEngine(), rules=rules), *batches)


@pytest.mark.usefixtures("clock")
def test_a_false_alarm_marked_benign_is_suppressed_at_once_and_another_attack_is_not(tmp_path, capsys):
    update = recorded(tmp_path)

    feedback_command(tmp_path, update.alert_id, "benign")

    assert "keeps its like back for 30 days" in capsys.readouterr().out
    assert incidents_after(tmp_path, window(at_s=2, flow_id=2)) == []
    assert len(incidents_after(tmp_path, window(at_s=2, flow_id=2, like=(-4.0, 3.0)))) == 1


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(("is_closed", "flows"), [(False, 60), (True, 1)])
def test_of_an_incident_that_goes_on_its_pace_counts_and_of_one_that_closed_its_flows(tmp_path, is_closed, flows):
    update = recorded(tmp_path)
    if is_closed:
        record = IncidentRecord(tmp_path / RECORD_FILE)
        record.add(replace(update, reason="closed: quiet"), bundle_sha256=SHA)
        record.close()

    feedback_command(tmp_path, update.incident_id, "benign")

    (rule,) = RulesFile(tmp_path / RULES_FILE).read().state.benign
    assert rule.flows == flows


@pytest.mark.usefixtures("clock")
def test_an_incident_that_closes_for_a_verdict_lets_its_rule_know_it_whole_on_disk(tmp_path):
    update = recorded(tmp_path)
    feedback_command(tmp_path, update.incident_id, "benign")
    (before,) = RulesFile(tmp_path / RULES_FILE).read().state.benign
    other = replace(update.prints[0], embedding=np.array((-4.0, 3.0), np.float32))
    whole = replace(update, reason=CALLED_BENIGN, score=0.97, flows=500, prints=(*update.prints, other))

    with Recorder(tmp_path) as recorder:
        recorder.add(replace(whole, reason="after 10 s"), bundle_sha256=SHA, mac=None)
        recorder.add(whole, bundle_sha256=SHA, mac=None)

    (after,) = RulesFile(tmp_path / RULES_FILE).read().state.benign
    assert (after.id, after.created_us, after.expires_us) == (before.id, before.created_us, before.expires_us)
    assert (after.score, after.flows, len(after.prints)) == (0.97, 500 * 60, 2)


@pytest.mark.usefixtures("clock")
def test_a_rule_that_was_revoked_meanwhile_is_not_made_again(tmp_path):
    update = recorded(tmp_path)

    with Recorder(tmp_path) as recorder:
        recorder.add(replace(update, reason=CALLED_BENIGN), bundle_sha256=SHA, mac=None)

    assert RulesFile(tmp_path / RULES_FILE).read().state.benign == []


@pytest.mark.usefixtures("clock")
def test_rules_that_cannot_be_read_cost_the_record_nothing(tmp_path, capsys):
    update = recorded(tmp_path)
    (tmp_path / RULES_FILE).write_text("{")

    with Recorder(tmp_path) as recorder:
        recorder.add(replace(update, reason=CALLED_BENIGN), bundle_sha256=SHA, mac=None)

    assert "is kept as it was made" in capsys.readouterr().err
    assert find_incident(tmp_path / RECORD_FILE, update.incident_id).told.reason == CALLED_BENIGN


def test_a_disk_that_is_behind_is_told_once_until_it_has_caught_up(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("agent.live.recorder.MOST_WAITING", 3)
    update = recorded(tmp_path)
    recorder = Recorder(tmp_path)  # its thread stands still

    def told(messages):
        for _ in range(messages):
            recorder.add(update, bundle_sha256=SHA, mac=None)
        return capsys.readouterr().err.count("the disk is behind")

    assert (told(3), told(2)) == (0, 1)
    for _ in range(5):
        recorder._waiting.take()  # one is written, and two come
        assert told(2) == 0
    while recorder._waiting.take() is not None:
        pass
    assert (told(3), told(2)) == (0, 1)


@pytest.mark.parametrize("error", [OSError("no locks left"), ValueError("no such rule")])
def test_a_rule_that_cannot_be_renewed_ends_no_record(tmp_path, capsys, monkeypatch, error):
    def refuses(*_args, **_settings):
        raise error

    update = recorded(tmp_path)
    monkeypatch.setattr("agent.live.recorder.renew_rule", refuses)

    with Recorder(tmp_path) as recorder:
        for reason in (CALLED_BENIGN, "closed: quiet"):
            recorder.add(replace(update, reason=reason), bundle_sha256=SHA, mac=None)

    assert "is kept as it was made" in capsys.readouterr().err
    assert find_incident(tmp_path / RECORD_FILE, update.incident_id).told.reason == "closed: quiet"


@pytest.mark.usefixtures("clock")
def test_the_incident_id_does_as_well_and_a_second_verdict_replaces_the_first(tmp_path):
    update = recorded(tmp_path)

    feedback_command(tmp_path, update.incident_id, "benign")
    feedback_command(tmp_path, update.alert_id, "benign")
    assert len(RulesFile(tmp_path / RULES_FILE).current()) == 1

    feedback_command(tmp_path, update.alert_id, "malicious")
    rules = RulesFile(tmp_path / RULES_FILE).current()
    assert (len(rules), dict(rules.verdicts)) == (0, {update.incident_id: "malicious"})


@pytest.mark.usefixtures("clock")
def test_the_log_shows_who_said_what_and_what_came_of_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("SUDO_USER", "ada")
    update = recorded(tmp_path)
    feedback_command(tmp_path, update.alert_id, "benign")
    with pytest.raises(DataMissing):
        feedback_command(tmp_path, "nobody\x1b[2J", "malicious")
    capsys.readouterr()

    assert feedback.run(parsed(["--log", "--state-dir", str(tmp_path)])) == 0

    first, second = capsys.readouterr().out.splitlines()
    assert re.search(rf"ada \(command\)  benign: scan at \S+ \({update.alert_id}\): benign; rule b-\w+ keeps", first)
    assert "malicious: nobody" in second
    assert ": refused: " in second
    assert "\x1b" not in second


def test_the_log_of_nothing_says_so(tmp_path, capsys):
    assert feedback.run(parsed(["--log", "--state-dir", str(tmp_path)])) == 0
    assert capsys.readouterr().out == "no verdict was given yet\n"


@pytest.mark.parametrize("words", [[], ["x"], ["x", "benign", "--log"]])
def test_half_a_command_line_is_refused(tmp_path, words):
    with pytest.raises(UsageError):
        feedback.run(parsed([*words, "--state-dir", str(tmp_path)]))


def test_an_id_nobody_knows_is_told(tmp_path):
    with pytest.raises(DataMissing, match="no incident was recorded"):
        feedback_command(tmp_path, "x", "benign")
    recorded(tmp_path)
    with pytest.raises(DataMissing, match="knows no alert"):
        feedback_command(tmp_path, "' OR 1=1 --", "benign")


def test_the_record_is_bounded_and_forgets_the_oldest(tmp_path, monkeypatch):
    monkeypatch.setattr(incident_record, "MAX_INCIDENTS", 10)
    made, record = Detector(make_bundle(), EmbeddingEngine()), IncidentRecord(tmp_path / RECORD_FILE)
    names = []
    for n in range(2 * TRIM_EVERY):
        (update,) = opened(made, window(at_s=1000 * n, flow_id=n))
        record.add(update, bundle_sha256=SHA)
        names.append(update.alert_id)
    record.close()

    with sqlite3.connect(tmp_path / RECORD_FILE) as db:
        (count,) = db.execute("SELECT count(*) FROM incidents").fetchone()
    assert count <= 10 + TRIM_EVERY < MAX_INCIDENTS
    assert find_incident(tmp_path / RECORD_FILE, names[-1]).attack_class == "scan"
    with pytest.raises(DataMissing):
        find_incident(tmp_path / RECORD_FILE, names[0])


def test_a_record_that_cannot_be_written_is_counted_and_stops_nobody(tmp_path):
    (update,) = opened(Detector(make_bundle(), EmbeddingEngine()), window())
    record = IncidentRecord(tmp_path / "file" / RECORD_FILE)
    (tmp_path / "file").write_text("in the way")

    record.add(update, bundle_sha256=SHA)

    assert record.failed == 1
    assert RECORD_FILE in record.trouble
    (tmp_path / "file").unlink()
    record.add(update, bundle_sha256=SHA)
    assert (record.failed, record.trouble) == (1, "")


def test_a_damaged_record_is_set_aside_and_a_new_one_begun(tmp_path):
    path = tmp_path / RECORD_FILE
    path.write_bytes(b"no database" * 100)
    (update,) = opened(Detector(make_bundle(), EmbeddingEngine()), window())
    with pytest.raises(StateRefused, match="cannot be read"):
        find_incident(path, update.alert_id)

    record = IncidentRecord(path)
    for _ in range(2):
        record.add(update, bundle_sha256=SHA)
    record.close()

    assert record.failed == 1
    assert find_incident(path, update.alert_id).incident_id == update.incident_id
    assert (tmp_path / (RECORD_FILE + ".damaged")).exists()
