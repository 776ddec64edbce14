"""Verdicts over MQTT: what is applied, what is refused and counted, and what stands on the log afterwards."""

from __future__ import annotations

import json
import time

import pytest

from agent.delivery import Incoming
from agent.live.verdicts import BURST, FRESH_US, TOKEN_S, Verdicts, read_message
from agent.state.audit import AUDIT_FILE, MOST_BYTES, AuditEntry, AuditLog
from agent.state.incident_record import RECORD_FILE
from agent.state.rules import RULES_FILE, RulesFile
from detection.state import StateRefused
from flowfeatures import address_text
from tests.agent.commands.test_feedback import recorded

NOW_US = 1_800_000_000_000_000
UNKNOWN = "019ab2c4-55aa-7d10-8a2b-0f6e1d2c3b4a"
PATIENCE_S = 120.0


class Site:
    """A state folder with one incident, and who takes verdicts for it."""

    def __init__(self, folder):
        self.folder = folder
        self.update = recorded(folder)
        self.now_us, self.now_s = NOW_US, 0.0
        self.answers = []
        self.verdicts = self.made()

    def made(self):
        return Verdicts(
            self.folder,
            gateway="cellar",
            answer=lambda topic, payload: self.answers.append((topic, json.loads(payload))),
            now_us=lambda: self.now_us,
            clock_s=lambda: self.now_s,
        )

    def say(self, *, answer_to=None, is_retained=False, **said):
        """Let one message be taken, and return when it is counted."""
        payload = json.dumps(said).encode()
        properties = {} if answer_to is None else {"ResponseTopic": answer_to}
        self.give(Incoming("penstock/v1/cellar/feedback", payload, properties, is_retained))

    def give(self, message):
        counted = self.total()
        self.verdicts.take(message)
        until_s = time.monotonic() + PATIENCE_S
        while self.total() == counted:
            assert time.monotonic() < until_s
            time.sleep(0.002)

    def total(self):
        return sum(self.verdicts.results.values())

    def results(self):
        return {name: count for name, count in self.verdicts.results.items() if count}

    def rules(self):
        return RulesFile(self.folder / RULES_FILE).current()

    def log(self):
        return AuditLog(self.folder / AUDIT_FILE).entries()


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path)
    with made.verdicts:
        yield made


def test_a_benign_verdict_makes_a_rule_and_a_malicious_one_takes_it_away(site):
    site.say(alert_id=site.update.alert_id, verdict="benign", operator="ada", note="inventory run")
    rules_then = len(site.rules())
    site.say(incident_id=site.update.incident_id, verdict="malicious", operator="bob")

    assert (rules_then, len(site.rules())) == (1, 0)
    assert dict(site.rules().verdicts) == {site.update.incident_id: "malicious"}
    assert site.results() == {"applied": 2}


def test_the_log_says_who_when_what_and_what_came_of_it(site):
    site.say(alert_id=site.update.alert_id, verdict="benign", operator="ada", note="inventory run")
    site.now_us += 1
    site.say(alert_id=UNKNOWN, verdict="malicious")

    first, second = site.log()
    assert (first.at_us, first.by, first.operator, first.note) == (NOW_US, "mqtt", "ada", "inventory run")
    assert (first.wanted, first.incident_id) == (site.update.alert_id, site.update.incident_id)
    assert (first.attack_class, first.device) == ("scan", address_text(site.update.device))
    assert "keeps its like back for 30 days" in first.outcome
    assert (second.wanted, second.verdict) == (UNKNOWN, "malicious")
    assert second.outcome.startswith("refused: ")


def test_what_was_said_before_is_refused_also_after_a_restart(site):
    said = {"alert_id": site.update.alert_id, "verdict": "benign", "sent_us": NOW_US}
    site.say(**said)
    site.say(alert_id=site.update.alert_id, verdict="malicious", sent_us=NOW_US + 1)
    site.say(**said)
    again = Site.__new__(Site)
    again.__dict__ |= site.__dict__
    again.verdicts = again.made()
    with again.verdicts:
        again.say(**said)

    assert site.results() == {"applied": 2, "replayed": 1}
    assert again.results() == {"replayed": 1}
    assert len(site.rules()) == 0


@pytest.mark.parametrize("apart_us", [-FRESH_US - 1, FRESH_US + 1])
def test_what_was_sent_too_long_ago_or_in_the_future_is_refused(site, apart_us):
    site.say(alert_id=site.update.alert_id, verdict="benign", sent_us=NOW_US + apart_us)

    assert site.results() == {"stale": 1}
    assert (len(site.rules()), site.log()) == (0, [])


@pytest.mark.parametrize("apart_us", [-FRESH_US, FRESH_US])
def test_at_the_edge_it_is_taken(site, apart_us):
    site.say(alert_id=site.update.alert_id, verdict="benign", sent_us=NOW_US + apart_us)

    assert site.results() == {"applied": 1}


def test_a_retained_verdict_is_refused(site):
    site.say(alert_id=site.update.alert_id, verdict="benign", is_retained=True)

    assert site.results() == {"retained": 1}
    assert len(site.rules()) == 0


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"[" * 4000,
        b"{}",
        b'{"verdict":"benign"}',
        b'{"verdict":"benign","alert_id":"x"}',
        b'{"verdict":"maybe","alert_id":"%s"}' % UNKNOWN.encode(),
        b'{"verdict":"benign","alert_id":"%s","incident_id":"%s"}' % (UNKNOWN.encode(), UNKNOWN.encode()),
        b'{"verdict":"benign","alert_id":"%s","more":1}' % UNKNOWN.encode(),
        b'{"verdict":"benign","verdict":"malicious","alert_id":"%s"}' % UNKNOWN.encode(),
        b'{"verdict":"benign","alert_id":"%s","operator":"a\\nb"}' % UNKNOWN.encode(),
        b'{"verdict":"benign","alert_id":"%s","operator":"%s"}' % (UNKNOWN.encode(), b"a" * 65),
        b'{"verdict":"benign","alert_id":"%s","sent_us":1.5}' % UNKNOWN.encode(),
        b'{"verdict":"benign","alert_id":"%s","sent_us":1e400}' % UNKNOWN.encode(),
    ],
)
def test_what_is_no_verdict_is_refused(payload):
    with pytest.raises(StateRefused, match=r"^feedback: "):
        read_message(payload)


def test_a_malformed_message_is_counted_and_costs_no_rate(site):
    for _ in range(2 * BURST):
        site.give(Incoming("penstock/v1/cellar/feedback", b"{", {}, is_retained=False))
    site.say(alert_id=site.update.alert_id, verdict="benign")

    assert site.results() == {"malformed": 2 * BURST, "applied": 1}


def test_verdicts_that_come_too_fast_are_refused_until_time_has_passed(site):
    for number in range(BURST + 2):
        site.say(alert_id=site.update.alert_id, verdict="benign", sent_us=NOW_US + number)
    before = site.results()
    site.now_s += TOKEN_S
    site.say(alert_id=site.update.alert_id, verdict="malicious")

    assert before == {"applied": BURST, "too_many": 2}
    assert site.results() == {"applied": BURST + 1, "too_many": 2}


def test_an_answer_goes_below_our_own_prefix_and_nowhere_else(site):
    said = {"alert_id": site.update.alert_id, "verdict": "benign"}
    site.say(**said, note="1", answer_to="penstock/v1/cellar/answer/ada-7")
    for number, topic in enumerate(
        ["penstock/v1/cellar/alert/scan", "penstock/v1/attic/answer/ada", "penstock/v1/cellar/answer/a/b", "x"]
    ):
        site.say(**said, note=f"other {number}", answer_to=topic)

    ((topic, said_back),) = site.answers
    assert topic == "penstock/v1/cellar/answer/ada-7"
    assert said_back["result"] == "applied"
    assert "rule b-" in said_back["said"]


def test_a_broken_rules_file_fails_the_verdict_which_may_be_said_again(site):
    rules = site.folder / RULES_FILE
    rules.write_text("no JSON")
    site.say(alert_id=site.update.alert_id, verdict="benign")
    rules.unlink()
    site.say(alert_id=site.update.alert_id, verdict="benign")

    assert site.results() == {"failed": 1, "applied": 1}


def test_without_a_state_nothing_is_subscribed_to(tmp_path):
    assert Verdicts(None, gateway="cellar").subscriptions(is_wanted=True) == []
    assert Verdicts(tmp_path, gateway="cellar").subscriptions(is_wanted=False) == []
    (only,) = Verdicts(tmp_path, gateway="cellar").subscriptions(is_wanted=True)
    assert only.topic_filter == "penstock/v1/cellar/feedback"


def test_the_log_is_bounded_and_what_is_no_line_of_it_is_left_out(tmp_path):
    log = AuditLog(tmp_path / AUDIT_FILE)
    entry = AuditEntry(at_us=1, by="mqtt", wanted=UNKNOWN, verdict="benign", outcome="x" * 200, note="y" * 200)
    line = len(entry.model_dump_json(exclude_defaults=True)) + 1
    for number in range(2 * MOST_BYTES // line + 100):
        log.add(entry.model_copy(update={"at_us": number}))
    with log.path.open("a") as file:
        file.write('{"at_us":"yesterday"}\n\x00\n')

    found = log.entries()

    assert sum(path.stat().st_size for path in log.files) <= 2 * MOST_BYTES
    assert found[-1].at_us == 2 * MOST_BYTES // line + 99
    assert [each.at_us for each in found] == list(range(found[0].at_us, found[-1].at_us + 1))
    assert log.path.stat().st_mode & 0o777 == 0o600


def test_a_file_of_ours_must_not_lead_elsewhere(tmp_path):
    (tmp_path / AUDIT_FILE).symlink_to(tmp_path / "elsewhere")

    with pytest.raises(Exception, match="cannot be written"):
        AuditLog(tmp_path / AUDIT_FILE).add(
            AuditEntry(at_us=1, by="command", wanted="x", verdict="benign", outcome="y")
        )
    assert not (tmp_path / "elsewhere").exists()
    assert (tmp_path / RECORD_FILE).exists() is False
