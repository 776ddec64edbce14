"""The way out of a replay: what is said, what is remembered, and when nothing is."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from agent.console.outgoing import Outgoing
from agent.delivery import Delivery
from agent.stopping import StopRequest
from contracts.errors import BrokerUnavailable, DeliveryError


class Finished:
    """A delivery that was closed, with what it would tell."""

    def __init__(self, *, left: int = 0, dropped: int = 0) -> None:
        self.left = left
        self.dropped = dropped
        self.reason = "127.0.0.1:1883: nobody"
        self.outbox_path = Path("o.db")


def settled(delivery: Finished) -> Outgoing:
    outgoing = Outgoing(cast("Delivery", delivery), stop=StopRequest())
    outgoing.settle()
    return outgoing


def test_all_delivered_is_not_worth_a_word(capsys: pytest.CaptureFixture[str]):
    assert settled(Finished()).errors == []
    assert capsys.readouterr().err == ""


def test_what_is_left_is_said_with_where_it_is_and_why(capsys: pytest.CaptureFixture[str]):
    (error,) = settled(Finished(left=3)).errors

    assert type(error) is BrokerUnavailable
    assert capsys.readouterr().err == "penstock: 3 alerts undelivered, kept in o.db: 127.0.0.1:1883: nobody\n"


def test_a_dropped_alert_is_an_error_though_all_others_arrived(capsys: pytest.CaptureFixture[str]):
    (error,) = settled(Finished(dropped=19)).errors

    assert (type(error), error.exit_code) == (DeliveryError, 69)
    assert capsys.readouterr().err == "penstock: 19 alerts dropped undelivered: more than the outbox may hold\n"


def test_left_and_dropped_are_two_lines(capsys: pytest.CaptureFixture[str]):
    settled(Finished(left=3, dropped=19))

    assert len(capsys.readouterr().err.splitlines()) == 2
