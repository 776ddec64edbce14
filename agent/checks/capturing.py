"""The interfaces: there, up, whole packets, a ring of the configured size."""

from __future__ import annotations

from collections.abc import Iterator

from agent.capture.bpf import NOTHING
from agent.capture.errors import CaptureError
from agent.capture.interface import index_of, is_up, link_type_of
from agent.capture.offload import advice, offloads_on
from agent.capture.ring_socket import RingSocket
from agent.capture.source import CaptureSettings
from agent.checks.patient import Patient
from contracts.errors import NeedsRoot, PenstockError
from contracts.findings import Finding, fail, ok, warn
from flowfeatures import FlowFeaturesError


def interfaces(patient: Patient) -> Iterator[Finding]:
    """Look at each interface: is it there, does it glue packets together, does it take a ring."""
    for name in patient.interfaces:
        if index_of(name) is None:
            remedy = "ip link; name another in capture.interfaces, or wait: the agent takes it up when it comes"
            yield (fail if len(patient.interfaces) == 1 else warn)("interface", f"{name}: is not there", remedy)
            continue
        try:
            link_type = link_type_of(name)
            if is_up(name):
                yield ok("interface", f"{name}: up")
            else:
                yield warn("interface", f"{name}: down, no packet comes over it", f"ip link set {name} up")
        except (PenstockError, FlowFeaturesError, OSError) as exc:
            yield fail("interface", str(exc), "name another in capture.interfaces")
            continue
        yield from _offloads(name)
        yield _ring(patient, name, link_type)
    if not patient.interfaces:
        yield warn("interface", "none is named", "set capture.interfaces, or penstock doctor --interface IFACE")


def _offloads(name: str) -> Iterator[Finding]:
    found = offloads_on(name)
    if found:
        remedy = f"sudo {advice(name, found)}; for every start: systemctl enable penstock-offloads@{name}"
        yield warn("offloads", f"{name}: {', '.join(found)} glue packets together before we see them", remedy)
    else:
        yield ok("offloads", f"{name}: none glues packets together")


def _ring(patient: Patient, name: str, link_type: int) -> Finding:
    """Open the ring as the agent would, let nothing in, and close it."""
    capture = None if patient.config is None else patient.config.capture
    settings = CaptureSettings(interface=name) if capture is None else CaptureSettings(
        interface=name,
        block_bytes=capture.block_bytes,
        block_count=capture.block_count,
        promiscuous=False,
    )  # fmt: skip
    size = f"{settings.block_count} blocks of {settings.block_bytes:,} octets"
    try:
        RingSocket(settings, program=NOTHING, link_type=link_type).close()
    except NeedsRoot:
        return warn("ring", f"{name}: not tried without CAP_NET_RAW", "sudo penstock doctor")
    except CaptureError as exc:
        return fail("ring", str(exc), "fewer capture.block_count or smaller capture.block_bytes; free -m")
    except PenstockError as exc:
        return fail("ring", str(exc), "the interface changed meanwhile; ask again")
    return ok("ring", f"{name}: {size}")
