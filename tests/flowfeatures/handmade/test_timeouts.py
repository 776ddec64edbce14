"""Idle, half-open and active timeouts on the microsecond, and what a cut leaves behind: FEATURES.md section 2."""

import math

import pytest

from tests.flowfeatures.conftest import Run
from tests.flowfeatures.handmade.reading import closed, packets, reasons
from tests.flowfeatures.meters import column
from tests.flowfeatures.packets import DEVICE, SERVER, START_US, Conversation, udp_frame
from tests.oracle.meter import ACTIVE, FORCED, IDLE


@pytest.mark.parametrize(
    ("silence_s", "expected"), [(60.000000, [FORCED]), (60.000001, [IDLE, FORCED])], ids=["on it", "past it"]
)
def test_a_tcp_flow_ends_past_sixty_seconds_of_silence(run: Run, silence_s: float, expected: list):
    talk = Conversation().out(0, "S").back(0.5, "SA")

    assert reasons(run(talk.out(0.5 + silence_s, "A").frames)) == expected


@pytest.mark.parametrize(
    ("silence_s", "expected"), [(15.000000, [FORCED]), (15.000001, [IDLE, FORCED])], ids=["on it", "past it"]
)
def test_another_flow_ends_past_fifteen_seconds_of_silence(run: Run, silence_s: float, expected: list):
    assert reasons(run([udp_frame(0), udp_frame(silence_s, back=True)])) == expected


@pytest.mark.parametrize(
    ("answer_s", "expected"), [(6.000000, [(2, 1)]), (6.000001, [(2, 0), (0, 1)])], ids=["on it", "past it"]
)
def test_a_half_open_flow_ends_past_five_seconds_after_its_last_syn(run: Run, answer_s: float, expected: list):
    # SYN at 0 and again at 1 s: half-open until 6.000000 s.
    measured = run(Conversation().out(0, "S").out(1, "S").back(answer_s, "SA").frames)

    assert packets(measured) == expected
    assert measured.records[0].half_open == (len(expected) == 2)
    assert measured.records[0].end_reason == (IDLE if len(expected) == 2 else FORCED)


@pytest.mark.parametrize("answer", ["SA", "RA"])
def test_an_answered_flow_is_no_longer_half_open(run: Run, answer: str):
    assert not run(Conversation().out(0, "S").back(0.1, answer).frames).records[0].half_open


def test_an_initiator_that_sends_more_than_syns_is_not_half_open(run: Run):
    measured = run(Conversation().out(0, "S").out(0.1, "A").out(20, "A").frames)

    assert packets(measured) == [(3, 0)]
    assert not measured.records[0].half_open


def busy(until_s: int) -> list:
    """One UDP packet from the device each ten seconds."""
    return [udp_frame(at_s) for at_s in range(0, until_s + 1, 10)]


def test_a_packet_exactly_at_the_active_timeout_still_belongs_to_the_flow(run: Run):
    measured = run(busy(120))

    # 0, 10, ..., 120 s: thirteen packets.
    assert packets(measured) == [(13, 0)]


def test_one_microsecond_past_the_active_timeout_the_flow_is_cut_and_goes_on(run: Run):
    measured = run([*busy(110), udp_frame(120.000001, back=True), udp_frame(121)])

    first, second = measured.records
    assert packets(measured) == [(12, 0), (1, 1)], "the server's packet came first, yet the direction is kept"
    assert (first.end_reason, first.left_us - START_US) == (ACTIVE, 120_000_000)
    assert second.number != first.number, "a new flow id begins"
    assert (first.segment, second.segment) == (0, 0)
    assert second.start_us - START_US == 120_000_001
    assert column(second, "iat_max_us") == 999_999, "the gap across the cut belongs to no flow"


@pytest.mark.parametrize(
    ("at_s", "ends"), [(135.000000, (DEVICE, SERVER)), (135.000001, (SERVER, DEVICE))], ids=["on it", "past it"]
)
def test_a_cut_flow_without_a_packet_is_dropped_past_its_idle_timeout(run: Run, at_s: float, ends: tuple):
    # Cut at 120 s, whose counters begin again there: remembered until 135.000000 s.
    measured = run([*busy(110), udp_frame(at_s, back=True)])

    assert reasons(measured) == [ACTIVE, FORCED], "the dropped entry leaves no record"
    assert measured.records[1].src[-4:] == bytes(int(part) for part in ends[0].split("."))
    assert packets(measured)[1] == ((0, 1) if ends[0] == DEVICE else (1, 0))


def test_a_cut_flow_that_stays_silent_leaves_no_record_at_the_end(run: Run):
    measured = run([*busy(110), udp_frame(121, ports=(1, 2))])

    assert reasons(measured) == [ACTIVE, FORCED]
    assert measured.records[1].src_port == 1


def test_on_a_tie_the_active_timeout_wins(run: Run):
    measured = run([udp_frame(0), udp_frame(100)], active_timeout_s=15)

    assert reasons(measured) == [ACTIVE, FORCED]


def test_a_cut_resets_the_tcp_state(run: Run):
    talk = closed()
    for at_s in (50, 100):
        talk.out(at_s, "A")

    # Closed with an endless linger, cut at 120 s, continued at 121 s: open again, so a SYN begins nothing new.
    measured = run(talk.out(121, "A").out(122, "S").frames, linger_s=math.inf)

    assert reasons(measured) == [ACTIVE, FORCED]
    assert packets(measured)[1] == (2, 0)


def test_a_cut_flow_of_syns_alone_is_half_open_again(run: Run):
    talk = Conversation()
    for at_s in range(0, 121, 4):
        talk.out(at_s, "S")
    talk.out(122, "S")

    # Cut at 120 s; the SYN at 122 s begins the next, which ends 5 s later.
    measured = run([*talk.frames, udp_frame(130)])

    assert reasons(measured)[:2] == [ACTIVE, IDLE]
    assert measured.records[1].left_us - START_US == 127_000_000
    assert measured.records[1].half_open
