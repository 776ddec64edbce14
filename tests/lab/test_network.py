"""Whatever happens, nothing of a network is left, and nothing of others is touched."""

from __future__ import annotations

import pytest

from contracts.errors import LabError
from lab import network
from lab.namespaces import stale_names
from lab.network import Network
from lab.scenario import draw_plan


def test_only_namespaces_of_labs_that_are_gone_are_stale():
    names = ["plab12-ab-camera1", "plab34-cd-camera1", "plab-x", "plabx-1", "docker0", "12-plab"]

    assert stale_names(names, is_alive=lambda pid: pid == 34) == ["plab12-ab-camera1"]


def test_two_networks_of_one_process_have_different_names():
    plan = draw_plan(1)

    assert Network(plan).namespace("gateway") != Network(plan).namespace("gateway")


def test_a_network_that_cannot_be_finished_removes_what_it_had_made(monkeypatch):
    removed = []

    def ip(arguments, *, batch=()):
        if arguments[0] == "-batch":
            raise LabError("no veth here")
        return ""

    monkeypatch.setattr(network, "ip", ip)
    monkeypatch.setattr(network, "sweep", list)
    monkeypatch.setattr(network, "remove_namespace", removed.append)
    lab = Network(draw_plan(1))

    with pytest.raises(LabError, match="no veth here"), lab:
        pass

    wanted = {lab.namespace(name) for name in ("gateway", "internet", "cables", *(h.name for h in lab.plan.hosts))}
    assert set(removed) == wanted


def test_removing_twice_removes_once(monkeypatch):
    removed = []
    monkeypatch.setattr(network, "ip", lambda arguments, *, batch=(): "")
    monkeypatch.setattr(network, "remove_namespace", removed.append)
    lab = Network(draw_plan(1))
    lab._add("gateway")

    lab.remove()
    lab.remove()

    assert removed == [lab.namespace("gateway")]
