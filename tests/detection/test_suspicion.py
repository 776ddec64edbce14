"""What must repeat itself before it is an incident."""

from __future__ import annotations

from contracts.classes import NAMES
from detection import suspicion
from detection.detector import Detector
from detection.incidents import IncidentUpdate
from flowfeatures import address_text
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

GUESS = {"brute_force": 0.8}


def detector() -> Detector:
    return Detector(make_bundle(), LegibleEngine())


def guess(at_s: float, flow_id: int, *, device: str = CAMERA) -> Window:
    row = Row(OUTSIDE, device, GUESS, flow_id=flow_id, end_us=T0_US + round(at_s * S))
    return Window(device, [row], at_s)


def said(updates: list[IncidentUpdate]) -> list[tuple[str, float]]:
    return [(each.reason, (each.at_us - T0_US) / S) for each in updates]


def test_password_guessing_opens_with_the_third_flow():
    watched = detector()

    assert watched.add(batch_of(guess(1, 1), guess(2, 2))) == []
    (update,) = watched.add(batch_of(guess(3, 3)))

    assert (update.reason, update.opened_us) == ("opened", T0_US + 3 * S)
    assert (update.flows, update.detections, update.class_name) == (3, 3, "brute_force")
    assert update.first_us == T0_US + S - S // 4, "the first flow belongs to it"
    assert address_text(update.parties.attacker) == OUTSIDE


def test_one_login_seen_again_and_again_is_none():
    watched = detector()

    assert watched.add(batch_of(*(guess(at_s, 1) for at_s in range(1, 200)))) == []
    assert (watched.opened, watched.incidents, watched.close()) == (0, [], [])


def test_three_flows_in_one_window_open_it_at_once():
    rows = [Row(OUTSIDE, CAMERA, GUESS, flow_id=n) for n in range(3)]

    (update,) = detector().add(batch_of(Window(CAMERA, rows)))

    assert (update.reason, update.flows) == ("opened", 3)


def test_a_suspicion_is_forgotten_after_the_quiet_time():
    watched = detector()

    updates = watched.add(batch_of(guess(0, 1), guess(1, 2), guess(302, 3), guess(303, 4)))

    assert updates == []


def test_a_slow_guesser_is_still_found():
    watched = detector()

    updates = watched.add(batch_of(*(guess(at_s, at_s) for at_s in (0, 250, 500))))

    assert said(updates) == [("opened", 500)]


def test_logins_at_different_devices_do_not_add_up():
    watched = detector()

    watched.add(batch_of(guess(0, 1), guess(1, 2, device=BULB), guess(2, 3, device=PHONE)))

    assert watched.opened == 0


def test_other_classes_open_with_the_first_flow():
    watched = detector()

    for number, name in enumerate(NAMES[1:11]):
        watched.add(batch_of(Window(CAMERA, [Row(ELSEWHERE, CAMERA, {name: 0.8}, flow_id=number)], number)))

    found = {incident.class_name for incident in watched.incidents}
    assert found == set(NAMES[1:11]) - {"brute_force"}


def test_a_clock_set_back_forgets_what_was_suspected():
    watched = detector()
    watched.add(batch_of(guess(1000, 1), guess(1001, 2)))

    assert watched.add(batch_of(guess(0, 3))) == []


def test_suspicions_are_bounded(monkeypatch):
    monkeypatch.setattr(suspicion, "MAX_SUSPICIONS", 2)
    watched = detector()
    devices = [CAMERA, BULB, PHONE]
    for flow in range(2):
        watched.add(batch_of(*(guess(flow * 3 + n, flow * 3 + n, device=each) for n, each in enumerate(devices))))

    watched.add(batch_of(guess(6, 6, device=PHONE), guess(7, 7)))

    assert watched.opened == 0, "the phone's third flow, had its first two not made room for others"
