"""What is kept of an incident's opening: whole, bounded, and checked when it is read."""

from __future__ import annotations

import base64
import json
import sqlite3
import zlib

import numpy as np
import pytest

from agent.state import incident_record
from agent.state.explanations import Explanation, packed, unpacked
from agent.state.incident_record import (
    RECORD_FILE,
    TRIM_EVERY,
    IncidentRecord,
    find_explanation,
    find_incident,
    newest_incidents,
)
from contracts.errors import DataMissing, OutputError
from detection.detector import Detector
from detection.state import StateRefused, checked
from detection.usual import LEAST_ROWS, Usual
from flowfeatures import WINDOW_COLUMNS
from tests.detection.test_rules import EmbeddingEngine, opened, window
from tests.detection.windows import CAMERA, PHONE, Row, Window, batch_of, make_bundle

SHA = "0" * 64
F = len(WINDOW_COLUMNS)


def update_of(*, usual=None, **changes):
    detector = Detector(make_bundle(), EmbeddingEngine(), usual=usual)
    for second in range(LEAST_ROWS if usual is not None else 0):
        detector.add(batch_of(Window(CAMERA, [Row(CAMERA, PHONE)], at_s=-100 + second)))
    (update,) = opened(detector, window(**changes))
    return update


def kept(folder, update):
    record = IncidentRecord(folder / RECORD_FILE)
    record.add(update, bundle_sha256=SHA)
    record.close()
    assert record.failed == 0
    return find_explanation(folder / RECORD_FILE, update.incident_id)


def test_the_window_is_kept_to_the_last_number(tmp_path):
    update = update_of(usual=Usual())

    found = kept(tmp_path, update)

    snapshot = update.snapshot
    assert np.array_equal(found.window, snapshot.values)
    assert np.array_equal(unpacked(found.usual.high, F), snapshot.usual.high)
    assert found.usual.records == LEAST_ROWS
    (flow,) = found.flows
    assert (flow.made_it, flow.is_new, flow.dst_port) == (True, True, 23)
    assert flow.alone == pytest.approx(0.8)


def test_a_snapshot_comes_with_the_first_message_only():
    detector = Detector(make_bundle(), EmbeddingEngine())
    updates = [*opened(detector, window()), *detector.close()]

    assert [each.snapshot is not None for each in updates] == [True, False]
    assert [each.snapshot for each in detector.incidents] == [None]


def test_what_a_detector_finds_does_not_depend_on_what_is_usual():
    with_usual, without = update_of(usual=Usual()), update_of()

    assert (with_usual.score, with_usual.columns) == (without.score, without.columns)


def test_later_messages_leave_the_explanation_and_renew_what_was_told(tmp_path):
    detector, record = Detector(make_bundle(), EmbeddingEngine()), IncidentRecord(tmp_path / RECORD_FILE)
    for update in [*opened(detector, window()), *detector.close()]:
        record.add(update, bundle_sha256=SHA)
    record.close()

    (incident,) = newest_incidents(tmp_path / RECORD_FILE, most=5)
    assert incident.told.reason == "closed: end of input"
    assert find_explanation(tmp_path / RECORD_FILE, incident.incident_id) is not None


def test_explanations_leave_with_their_incidents(tmp_path, monkeypatch):
    monkeypatch.setattr(incident_record, "MAX_INCIDENTS", 3)
    detector, record = Detector(make_bundle(), EmbeddingEngine()), IncidentRecord(tmp_path / RECORD_FILE)
    for n in range(TRIM_EVERY + 2):
        for update in opened(detector, window(at_s=1000 * n, flow_id=n)):
            record.add(update, bundle_sha256=SHA)
    record.close()

    with sqlite3.connect(tmp_path / RECORD_FILE) as db:
        counts = [db.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in ("incidents", "explanations")]
    assert counts[0] == counts[1] <= 4


def older(folder, update):
    """Write a record as the format before had it."""
    kept(folder, update)
    with sqlite3.connect(folder / RECORD_FILE) as db:
        (content,) = db.execute("SELECT content FROM incidents").fetchone()
        tree = json.loads(content)
        del tree["told"]
        db.execute("UPDATE incidents SET content = ?", (json.dumps(tree),))
        db.executescript("DROP TABLE explanations; PRAGMA user_version = 1;")
    db.close()


def test_a_record_of_the_format_before_is_read_and_then_carried_on(tmp_path):
    first, second = update_of(), update_of(at_s=5000.0, flow_id=9)
    older(tmp_path, first)

    assert find_explanation(tmp_path / RECORD_FILE, first.incident_id) is None
    assert find_incident(tmp_path / RECORD_FILE, first.alert_id).told is None
    assert kept(tmp_path, second) is not None
    assert find_incident(tmp_path / RECORD_FILE, first.alert_id).incident_id == first.incident_id
    assert not (tmp_path / (RECORD_FILE + ".damaged")).exists()


def test_a_record_begun_anew_forgets_and_a_file_that_is_none_is_left_alone(tmp_path):
    update = update_of()
    kept(tmp_path, update)
    record = IncidentRecord(tmp_path / RECORD_FILE)
    record.begin_anew()
    record.close()
    with pytest.raises(DataMissing):
        find_incident(tmp_path / RECORD_FILE, update.alert_id)
    other = tmp_path / "letter.txt"
    other.write_text("dear diary " * 500)

    with pytest.raises(OutputError, match="cannot be a record"):
        IncidentRecord(other).begin_anew()
    assert other.read_text() == "dear diary " * 500
    foreign = tmp_path / "foreign.db"
    with sqlite3.connect(foreign) as db:
        db.execute("CREATE TABLE mine (x)")
    with pytest.raises(OutputError, match="cannot be a record"):
        IncidentRecord(foreign).begin_anew()


def test_an_array_that_is_not_what_it_should_be_is_refused():
    whole = packed(np.arange(4, dtype=np.float32))
    assert unpacked(whole, 4).tolist() == [0, 1, 2, 3]

    bomb = base64.b64encode(zlib.compress(bytes(50_000_000))).decode()
    for text, count in (
        (whole, 3),
        (whole, 5),
        (bomb, 4),
        ("no base64!", 4),
        (base64.b64encode(b"no zlib").decode(), 4),
    ):
        with pytest.raises(ValueError, match="a packed array"):
            unpacked(text, count)
    assert unpacked(packed(np.array([np.nan, np.inf], np.float32)), 2)[0] == 0


@pytest.mark.parametrize(
    "change",
    [
        {"schema_id": "other"},
        {"values": packed(np.zeros(1, np.float32))},
        {"medians": "x"},
        {"device": "10.0.0.1"},
        {"flows": []},
        {"more": 1},
        {"columns": {"x": float("nan")}},
    ],
)
def test_an_explanation_is_taken_whole_or_not_at_all(tmp_path, change):
    tree = json.loads(kept(tmp_path, update_of()).model_dump_json())
    assert checked(Explanation, tree, what="x").device

    with pytest.raises(StateRefused):
        checked(Explanation, tree | change, what="x")
