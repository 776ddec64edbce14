"""Windows in, incidents out: what opens, what it says when, and what it never says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from contracts.bundle import SustainedRule
from contracts.classes import HEAD_NAMES, NAMES
from contracts.errors import BundleCorrupt
from detection import incidents
from detection.detector import Detector
from detection.incidents import IncidentUpdate
from flowfeatures import WINDOW_COLUMNS, address_bytes, address_text
from tests.detection.windows import (
    BULB,
    CAMERA,
    ELSEWHERE,
    OUTSIDE,
    PHONE,
    T0_US,
    LegibleEngine,
    Row,
    S,
    Window,
    batch_of,
    make_bundle,
)

SCAN, SEVERE = {"scan": 0.8}, {"scan": 0.95}


def detector(**settings) -> Detector:
    return Detector(make_bundle(), LegibleEngine(), **settings)


def scan_at(at_s: float, *, flow_id: int = 1, device: str = CAMERA, scores=SCAN, **row) -> Window:
    """Return a window in which the device is scanned from outside."""
    return Window(device, [Row(row.pop("src", OUTSIDE), device, scores, flow_id=flow_id, **row)], at_s)


def quiet_at(at_s: float) -> Window:
    return Window(PHONE, [Row(PHONE, ELSEWHERE)], at_s)


def said(updates: list[IncidentUpdate]) -> list[tuple[int, str, float]]:
    return [(each.update, each.reason, (each.at_us - T0_US) / S) for each in updates]


def test_a_benign_window_says_nothing():
    assert detector().add(batch_of(quiet_at(0))) == []


def test_the_first_detection_opens_an_incident_at_once():
    (update,) = detector().add(batch_of(quiet_at(0), scan_at(1)))

    assert said([update]) == [(0, "opened", 1.0)]
    assert (address_text(update.device), update.class_name, update.severity) == (CAMERA, "scan", 2)
    assert (address_text(update.parties.attacker), address_text(update.parties.victim)) == (OUTSIDE, CAMERA)
    assert update.score == pytest.approx(0.8)
    assert [each.column for each in update.columns] == [WINDOW_COLUMNS[NAMES.index("scan")]]


def test_an_incident_speaks_after_10_s_1_min_and_10_min_and_when_it_has_been_quiet():
    watched = detector()

    updates = [each for at_s in range(0, 700, 5) for each in watched.add(batch_of(scan_at(at_s, flow_id=at_s)))]
    updates += watched.add(batch_of(quiet_at(10_000)))

    assert said(updates) == [
        (0, "opened", 0),
        (1, "after 10 s", 10),
        (2, "after 60 s", 60),
        (3, "after 600 s", 600),
        (4, "closed: quiet", 695 + 300),
    ]
    assert updates[2].flows == 12, "one flow each 5 s, the one at 60 s not yet among them"
    assert len({each.incident_id for each in updates}) == 1
    assert len({each.alert_id for each in updates}) == 5
    assert len({each.signature_id for each in updates}) == 1


def test_a_detection_one_tick_before_the_quiet_time_is_over_keeps_it_open():
    watched = detector()
    watched.add(batch_of(scan_at(0)))

    watched.add(batch_of(scan_at(299.95, flow_id=2)))

    assert watched.opened == 1


def test_a_detection_after_the_quiet_time_is_another_incident():
    watched = detector()
    watched.add(batch_of(scan_at(0)))

    updates = watched.add(batch_of(scan_at(300, flow_id=2)))

    assert [each.reason for each in updates] == ["after 10 s", "after 60 s", "closed: quiet", "opened"]
    assert watched.opened == 2


def test_one_batch_or_many_says_the_same():
    windows = [scan_at(at_s, flow_id=at_s) for at_s in range(0, 90, 3)] + [quiet_at(500), scan_at(501, flow_id=999)]
    one, many = detector(), detector()

    at_once = one.add(batch_of(*windows)) + one.close()
    in_turn = [each for window in windows for each in many.add(batch_of(window))] + many.close()

    assert said(at_once) == said(in_turn)
    assert [each.alert_id for each in at_once] == [each.alert_id for each in in_turn]


def test_an_attack_that_ended_does_not_prolong_its_incident():
    watched = detector()
    watched.add(batch_of(scan_at(0)))
    aftermath = [Row(OUTSIDE, CAMERA, SCAN, is_new=False), Row(CAMERA, ELSEWHERE, flow_id=7)]

    updates = [each for at_s in range(1, 301) for each in watched.add(batch_of(Window(CAMERA, aftermath, at_s)))]

    assert said(updates)[-1] == (3, "closed: quiet", 300)


def test_between_two_home_devices_there_is_one_incident_and_it_is_the_attackers():
    rows = [Row(PHONE, CAMERA, SCAN)]
    watched = detector()

    updates = watched.add(batch_of(Window(CAMERA, rows), Window(PHONE, rows, 0.05)))

    assert [address_text(each.device) for each in updates] == [PHONE]
    assert updates[0].inside
    assert updates[0].signature_id == 9_000_101


def test_a_flow_already_in_an_incident_opens_no_second_one_for_its_other_end():
    crowd = [Row(f"192.168.1.{100 + n}", CAMERA, SCAN, flow_id=n) for n in range(4)]
    watched = detector()
    watched.add(batch_of(Window(CAMERA, crowd)))

    updates = watched.add(batch_of(Window("192.168.1.100", [crowd[0]], 0.05)))

    assert updates == []
    assert watched.opened == 1


def test_two_devices_and_two_classes_are_as_many_incidents():
    watched = detector()

    watched.add(
        batch_of(
            scan_at(0, flow_id=1),
            scan_at(0, flow_id=2, scores={"flood": 0.9}),
            scan_at(0, flow_id=3, device=BULB),
        )
    )

    found = {(address_text(each.device), each.class_name) for each in watched.incidents}
    assert found == {(CAMERA, "scan"), (CAMERA, "flood"), (BULB, "scan")}


def test_a_two_way_source_outside_above_the_second_threshold_earns_severity_1():
    (update,) = detector().add(batch_of(scan_at(0, scores=SEVERE, handshake=True)))

    assert (update.severity, update.parties.spoofable) == (1, False)


@pytest.mark.parametrize(
    "window",
    [
        scan_at(0, scores=SCAN, handshake=True),
        scan_at(0, scores=SEVERE, handshake=False),
        scan_at(0, scores=SEVERE, handshake=True, src=PHONE),
        scan_at(0, scores=SEVERE, handshake=True, src=ELSEWHERE),
    ],
    ids=["below the second threshold", "no handshake", "a home device", "in never_ban"],
)
def test_severity_1_is_not_earned_by(window: Window):
    (update,) = detector(never_ban=[f"{ELSEWHERE}/32"]).add(batch_of(window))

    assert update.severity == 2


def test_a_rise_in_severity_is_said_at_once_and_only_once():
    watched = detector()
    watched.add(batch_of(scan_at(0)))

    updates = watched.add(batch_of(*(scan_at(n, flow_id=n, scores=SEVERE, handshake=True) for n in (1, 2, 3))))

    assert said(updates) == [(1, "severity", 1.0)]
    assert updates[0].severity == 1


def test_who_is_not_named_can_not_be_banned():
    rows = [Row(f"203.0.113.{n}", CAMERA, SEVERE, flow_id=n, handshake=True) for n in range(3)]

    (update,) = detector().add(batch_of(Window(CAMERA, rows)))

    assert (update.parties.attacker_named, update.severity) == (False, 2)


def test_the_end_of_the_input_closes_what_is_open():
    watched = detector()
    watched.add(batch_of(scan_at(0), scan_at(5, flow_id=2)))

    assert said(watched.close()) == [(1, "closed: end of input", 5)]
    assert watched.close() == []


def test_a_clock_set_back_closes_what_is_open_and_time_goes_on_from_there():
    watched = detector()
    watched.add(batch_of(scan_at(1_000)))

    updates = watched.add(batch_of(quiet_at(0), scan_at(1)))

    assert [each.reason for each in updates] == ["closed: clock set back", "opened"]


def test_more_open_incidents_than_allowed_close_the_quietest(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(incidents, "MAX_OPEN", 2)
    watched = detector()

    updates = watched.add(
        batch_of(*(scan_at(n, flow_id=n, device=device) for n, device in enumerate((CAMERA, BULB, PHONE))))
    )

    assert [(each.reason, address_text(each.device)) for each in updates] == [
        ("opened", CAMERA),
        ("opened", BULB),
        ("closed: too many open", CAMERA),
        ("opened", PHONE),
    ]


def test_a_storm_of_incidents_at_one_moment_keeps_few_appointments_and_misses_none(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(incidents, "MAX_OPEN", 4)
    watched = detector()
    storm = [scan_at(0, flow_id=n, device=f"10.0.0.{n}") for n in range(1, 200)]

    watched.add(batch_of(*storm))
    appointments = len(watched._incidents._speaks)
    late = watched.add(batch_of(quiet_at(400)))

    assert appointments <= 2 * incidents.MAX_OPEN
    assert [each.reason for each in late] == ["after 10 s"] * 4 + ["after 60 s"] * 4 + ["closed: quiet"] * 4


def test_the_same_windows_give_the_same_names_and_another_gateway_others():
    names = []
    for salt in ("a", "a", "b"):
        (update,) = detector(id_salt=salt).add(batch_of(scan_at(0)))
        names.append((update.incident_id, update.alert_id))

    assert names[0] == names[1]
    assert not set(names[0]) & set(names[2])


def test_only_an_opening_incident_is_explained():
    engine = LegibleEngine()
    watched = Detector(make_bundle(), engine)
    watched.add(batch_of(scan_at(0)))
    scored = engine.windows_scored

    watched.add(batch_of(scan_at(1, flow_id=2)))

    assert engine.windows_scored - scored == 2, "the window itself and its one record"


def test_an_incident_opened_anew_speaks_at_its_own_times(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(incidents, "MAX_OPEN", 1)
    watched = detector()
    watched.add(batch_of(scan_at(0, flow_id=1), scan_at(1, flow_id=2, device=BULB), scan_at(4, flow_id=3)))

    updates = watched.add(batch_of(quiet_at(60)))

    assert [(reason, at_s) for _, reason, at_s in said(updates)] == [("after 10 s", 14.0)]


def test_a_storm_of_incidents_is_told_in_order_of_time(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(incidents, "MAX_OPEN", 50)
    watched = detector()
    devices = [f"10.0.{n // 250}.{1 + n % 250}" for n in range(500)]

    updates = watched.add(batch_of(*(scan_at(n, flow_id=n, device=each) for n, each in enumerate(devices))))

    reasons = [each.reason for each in updates]
    assert (reasons.count("opened"), reasons.count("closed: too many open")) == (500, 450)
    assert [(each.at_us - T0_US) // S for each in updates] == sorted((each.at_us - T0_US) // S for each in updates)


class FailingEngine(LegibleEngine):
    """Breaks after so many calls."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.calls = calls

    def score(self, windows, mask):
        if self.calls <= 0:
            raise BundleCorrupt("model.onnx: gave nan")
        self.calls -= 1
        return super().score(windows, mask)


@pytest.mark.parametrize("calls", [0, 1])
def test_a_batch_the_engine_fails_on_counts_nowhere_and_can_be_given_to_another(calls):
    made = Detector(make_bundle(), FailingEngine(calls))
    with pytest.raises(BundleCorrupt):
        made.add(batch_of(scan_at(0)))
    assert (made.windows, made.detections, made.opened) == (0, 0, 0)

    made.use(make_bundle(), LegibleEngine())

    assert len(made.add(batch_of(scan_at(0)))) == 1
    assert made.windows == 1


def test_what_cannot_be_explained_is_told_without_columns():
    (update,) = Detector(make_bundle(), FailingEngine(2)).add(batch_of(scan_at(0)))

    assert update.columns == ()


def test_another_bundle_keeps_the_incidents_that_are_open():
    made = detector()
    made.add(batch_of(scan_at(0)))

    made.use(make_bundle(open_at=0.7), LegibleEngine())

    assert made.add(batch_of(scan_at(1, flow_id=2))) == []
    assert (made.opened, made.open_incidents) == (1, 1)
    assert made.opened_by_class[NAMES.index("scan")] == 1


def test_a_source_that_must_never_be_banned_earns_no_severity_from_then_on():
    made = detector()
    (first,) = made.add(batch_of(scan_at(0, scores=SEVERE, handshake=True)))
    made.change(never_ban=[OUTSIDE])

    (second,) = made.add(batch_of(scan_at(0, device=BULB, flow_id=2, scores=SEVERE, handshake=True)))

    assert (first.severity, second.severity) == (1, 2)


def test_settings_that_cannot_be_change_nothing():
    made = detector()

    with pytest.raises(ValueError, match="network"):
        made.change(never_ban=["nonsense"], incident_quiet_s=1.0)

    made.add(batch_of(scan_at(0)))
    assert made.advance(T0_US + 2 * S) == []


def test_a_shorter_time_of_quiet_closes_open_incidents_too():
    made = detector()
    made.add(batch_of(scan_at(0)))

    made.change(incident_quiet_s=5.0)

    assert said(made.advance(T0_US + 6 * S)) == [(1, "closed: quiet", 5.0)]


def test_prints_are_kept_while_an_incident_may_speak_and_not_after():
    made = detector()
    (update,) = made.add(batch_of(scan_at(0)))
    made.close()

    assert len(update.prints) == 1
    assert [each.prints for each in made.incidents] == [()]


def test_a_device_that_changes_its_address_keeps_its_incident():
    made = detector()
    (first,) = made.add(batch_of(scan_at(0)))

    made.moved(address_bytes(CAMERA), address_bytes(BULB))
    later = made.add(batch_of(scan_at(5, device=BULB, flow_id=2)))
    (after_10_s,) = made.advance(T0_US + 10 * S)
    closed = made.advance(T0_US + 400 * S)

    assert later == []
    assert made.opened == 1
    assert (after_10_s.incident_id, address_text(after_10_s.device)) == (first.incident_id, BULB)
    assert said(closed)[-1] == (3, "closed: quiet", 305.0)


def test_a_device_that_moves_to_where_the_same_class_is_open_joins_nothing():
    made = detector()
    made.add(batch_of(scan_at(0), scan_at(0, device=BULB, flow_id=2)))

    made.moved(address_bytes(CAMERA), address_bytes(BULB))

    assert made.open_incidents == 2
    assert len(made.close()) == 2


def test_password_guesses_before_and_after_a_move_add_up():
    made = detector()
    guess = {"brute_force": 0.8}
    made.add(batch_of(scan_at(0, scores=guess, flow_id=1), scan_at(1, scores=guess, flow_id=2)))

    made.moved(address_bytes(CAMERA), address_bytes(BULB))

    (update,) = made.add(batch_of(scan_at(2, device=BULB, scores=guess, flow_id=3)))
    assert update.class_name == "brute_force"


LASTING = SustainedRule(weight=0.25, start=-3.0, least=-4.0, most=6.0, fades_s=300.0, open=0.7)


def patient(rule: SustainedRule | None) -> Detector:
    """Return a detector for which one window tells from .99 on, and many by a rule."""
    bundle = make_bundle(open_at=0.99, severe_at=0.999)
    update = {"score": "not benign", "sustained": rule}
    return Detector(replace(bundle, manifest=bundle.manifest.model_copy(update=update)), LegibleEngine())


def test_a_patient_attacker_is_told_by_many_windows_of_which_none_would_tell_alone():
    windows = [scan_at(at_s, flow_id=at_s, scores={"scan": 0.9}) for at_s in range(20)]

    alone = [each for window in windows for each in patient(None).add(batch_of(window))]
    lasting = patient(LASTING)
    together = [each for window in windows for each in lasting.add(batch_of(window))]

    assert alone == []
    assert said(together)[0][:2] == (0, "opened")
    assert together[0].score > 0.99
    assert lasting.judged.probabilities.shape == (1, len(HEAD_NAMES))


def test_a_device_that_changes_its_address_does_not_shake_off_what_it_was_suspected_of():
    lasting = patient(LASTING)
    for at_s in range(5):
        assert lasting.add(batch_of(scan_at(0.05 * at_s, flow_id=at_s, scores={"scan": 0.85}))) == []

    lasting.moved(address_bytes(CAMERA), address_bytes(BULB))
    (opened, *_) = [
        each
        for at_s in range(5, 10)
        for each in lasting.add(batch_of(scan_at(0.05 * at_s, flow_id=at_s, device=BULB, scores={"scan": 0.85})))
    ]

    assert (opened.at_us - T0_US) / S == pytest.approx(0.05 * 5)  # five more would be wanted of one unknown before
    assert address_text(opened.device) == BULB
