"""Devices, watched: what the listeners hear goes to `Devices`, what has moved takes its window along.

A move is only made where the traffic agrees with what was said: the window of the new address holds flows of that very
MAC, and the old address has sent nothing lately. To be called by the thread that feeds the windows, between batches.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from agent.devices.devices import QUIET_US, Devices
from agent.devices.listener import DeviceListener
from agent.devices.report import Move
from flowfeatures import DeviceWindows

ASK_EVERY_US: Final = 1_000_000


class DeviceWatch:
    """Hear `interfaces` for `devices` and move windows. Raises what `DeviceListener` raises, when made only."""

    def __init__(
        self,
        devices: Devices,
        windows: DeviceWindows,
        *,
        interfaces: Sequence[str],
        now_us: Callable[[], int] = lambda: time.monotonic_ns() // 1000,
    ) -> None:
        self.devices = devices
        self._windows = windows
        self._now_us = now_us
        self._asked_us = now_us()
        self._listeners: list[DeviceListener] = []
        try:
            for interface in interfaces:
                self._listeners.append(DeviceListener(interface, now_us=now_us))
        except BaseException:
            self.close()
            raise

    def turn(self, clock_us: int) -> list[Move]:
        """Hear what stands ready; return the moves made. `clock_us` is the time of the packets metered so far."""
        for listener in self._listeners:
            listener.poll(self.devices.observe, self.devices.missed)
        now_us = self._now_us()
        if now_us - self._asked_us < ASK_EVERY_US:
            return []
        self._asked_us = now_us
        moves = self.devices.moves(now_us, lambda old, new, mac: self.objection(old, new, mac, clock_us))
        for move in moves:
            self._windows.move(move.old, move.new)
        return moves

    def objection(self, old: bytes, new: bytes, mac: bytes, clock_us: int) -> str | None:
        """Return why the traffic speaks against a move, None where it does not."""
        at_old, at_new = self._windows.spoke(old), self._windows.spoke(new)
        if at_old is not None and clock_us - at_old[0] < QUIET_US:
            return "old address still sends"
        if at_new is None:
            return "new address never sent"
        if any(seen is not None and any(seen[1]) and seen[1] != mac for seen in (at_old, at_new)):
            return "another MAC sends"
        return None

    def mac_of(self, address: bytes) -> str | None:
        """Return the MAC by which the operator's rules know the device at an address (16 octets).

        Empty, which no rule fits, where it is claimed but not proven, or where the traffic is under another MAC.
        """
        mac, sent = self.devices.proven_mac(address), self._windows.spoke(address)
        is_another = sent is not None and any(sent[1]) and sent[1].hex(":") != mac
        return "" if mac is not None and is_another else mac

    def close(self) -> None:
        """Close every socket; a second call does nothing."""
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
