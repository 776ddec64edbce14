"""Who has which address: MACs, names and moves, by what devices say of themselves, in bounded memory.

Anyone on the link can say anything, so nothing is believed at once and silence counts only while nothing was missed
(docs/decisions/0026). Strangers, MACs heard for less than ten minutes, have a small table of their own: a flood of
made-up ones turns that over and leaves settled devices alone. The trap: times are of a clock that never steps.
"""

from __future__ import annotations

import heapq
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from typing import Any, Final

from agent.devices.device import SECOND_US, SETTLE_HEARINGS, SETTLE_US, Device, kind_of
from agent.devices.frames import read
from agent.devices.hints import Hint, Refused, clean_name
from agent.devices.report import STATE_VERSION, DeviceCounts, DeviceName, DeviceRow, Move, rows_of
from flowfeatures import HomeNets, address_bytes, address_text, mac_text

MAX_SETTLED: Final = 1024  # as many as DeviceWindows keeps
MAX_STRANGERS: Final = 256
FORGET_US: Final = 24 * 3600 * SECOND_US  # a settled device silent for so long makes room for another
QUIET_US: Final = 60 * SECOND_US  # an address not claimed for so long, while all was heard, has been left
HOLD_US: Final = 3600 * SECOND_US  # and for so long: another device may have it
REST_US: Final = 600 * SECOND_US  # between two moves of one device
PENDING_US: Final = 3600 * SECOND_US  # a move not confirmed by then is counted as none, and begins anew if it goes on
MAX_TAKEOVERS: Final = 1024

Objection = Callable[[bytes, bytes, bytes], str | None]
"""Asked before a move, with old address, new address and MAC: why it must not be, None where nothing speaks against."""


class Devices:
    """Every device heard on the link.

    `own` are addresses (16 octets) and MACs (6) of this gateway, which nobody else may claim. Both may be replaced when
    the gateway's networks have changed.
    """

    def __init__(self, *, home: HomeNets, own: Iterable[bytes] = ()) -> None:
        self.own = frozenset(own)
        self.home = home
        self._settled: dict[bytes, Device] = {}
        self._strangers: OrderedDict[bytes, Device] = OrderedDict()  # the one silent for longest first
        self._holders: dict[bytes, bytes] = {}  # address -> MAC
        self._name_holders: dict[str, bytes] = {}
        self._pending: dict[tuple[bytes, str], tuple[bytes, int]] = {}  # MAC, kind -> where it may have moved to, since
        self._takeovers: list[bytes] = []
        self._deaf_us: int | None = None
        self._counts: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._refused_moves: Counter[str] = Counter()

    # -- what is heard ------------------------------------------------------------------------------------------

    def observe(self, frame: bytes, now_us: int) -> None:
        """Take in one frame, whatever it holds."""
        self._counts["frames"] += 1
        try:
            hint = self._hint(frame)
        except Refused as refused:
            self._refused[refused.reason] += 1
            return
        device = self._device(hint.mac, now_us)
        device.hear(now_us)
        if hint.wishes and not device.wishes:
            device.wishes = hint.wishes
        if hint.name is not None:
            self._name(device, hint.name, now_us)
        if hint.address is not None:
            self._claim(device, hint.address, now_us)
        self._settle(device, now_us)

    def missed(self, frames: int, now_us: int) -> None:
        """Frames were lost: until now, silence has meant nothing."""
        self._counts["dropped"] += frames
        self._deaf_us = now_us

    # -- what is known ------------------------------------------------------------------------------------------

    def named(self, address: bytes) -> DeviceName | None:
        """Return MAC and name of the device that has an address (16 octets), None where nobody said so."""
        mac = self._holders.get(bytes(address))
        device = None if mac is None else self._find(mac)
        return None if device is None else DeviceName(mac=mac_text(device.mac), name=self._shown_name(device))

    def proven_mac(self, address: bytes) -> str | None:
        """Return the MAC a rule of the operator's may go by: empty where one claims the address that is not proven yet.

        None where nobody does. A name is only shown; a mute that followed an unproven claim would be the forger's.
        """
        mac = self._holders.get(bytes(address))
        device = None if mac is None else self._find(mac)
        if device is None:
            return None
        return mac_text(device.mac) if bytes(address) in device.proven else ""

    def moves(self, now_us: int, objection: Objection = lambda _old, _new, _mac: None) -> list[Move]:
        """Return the devices that have changed their address since this was last asked."""
        found = []
        for key, (new, since_us) in list(self._pending.items()):
            mac, _ = key
            device = self._find(mac)
            if device is None or new not in device.claims or self._holders.get(new) != mac:
                self._drop_move(key, "gone")
                continue
            old = device.left_for(new)
            why: str | None = "old address in use"
            if old is not None and self._holders.get(old) == mac:
                why = objection(old, new, mac) if self._is_confirmed(device, old, new, now_us) else "not confirmed"
                if why is None:
                    found.append(self._move(device, old, new, now_us))
            if why is not None and now_us - since_us > PENDING_US:
                self._drop_move(key, why)
        return found

    def takeovers(self) -> list[bytes]:
        """Return the addresses that have gone from one device to another since this was last asked."""
        taken, self._takeovers = self._takeovers, []
        return taken

    def counts(self) -> DeviceCounts:
        """Return how many there are, and what was refused."""
        everyone = list(self._everyone())
        return DeviceCounts(
            devices=len(everyone),
            settled=len(self._settled),
            addresses=len(self._holders),
            named=sum(device.name is not None for device in everyone),
            refused=dict(self._refused),
            refused_moves=dict(self._refused_moves),
            **{name: self._counts[name] for name in DeviceCounts.COUNTS},
        )

    def heard_last(self, most: int) -> list[tuple[DeviceName, tuple[str, ...], int]]:
        """Return those heard last, newest first: who, its addresses, and when."""
        newest = heapq.nlargest(most, self._everyone(), key=lambda each: each.last_us)
        return [
            (
                DeviceName(mac=mac_text(each.mac), name=self._shown_name(each)),
                tuple(address_text(claim) for claim in each.claims if self._holders.get(claim) == each.mac),
                each.last_us,
            )
            for each in newest
        ]

    def list(self) -> list[DeviceRow]:
        """Return a row for each device, by MAC."""
        return [self._row(device, device.claims) for device in sorted(self._everyone(), key=lambda each: each.mac)]

    def forget(self, text: str) -> bool:
        """Forget the device with this MAC or address, as text; return whether it was known."""
        for device in list(self._everyone()):
            addresses = (address_text(each) for each in device.claims if self._holders.get(each) == device.mac)
            if text == mac_text(device.mac) or text in addresses:
                self._remove(device)
                return True
        return False

    def state(self) -> dict[str, Any]:
        """Return what is worth keeping over a restart, for JSON: settled devices, their proven addresses and names."""
        rows = [self._row(device, device.proven) for device in self._settled.values()]
        return {"version": STATE_VERSION, "devices": [asdict(row) for row in rows]}

    def restore(self, state: object, now_us: int) -> None:
        """Take over what `state` returned, as if every device had just been heard; what is known already stays.

        Raises ValueError where it is no such thing; then nothing is taken over.
        """
        for row in rows_of(state)[: MAX_SETTLED - len(self._settled)]:
            mac = bytes.fromhex(row.mac.replace(":", ""))
            if self._find(mac) is not None or mac in self.own:
                continue
            device = Device(mac, now_us - SETTLE_US, now_us, hearings=SETTLE_HEARINGS, wishes=bytes.fromhex(row.wishes))
            self._settled[mac] = device
            if row.name is not None:
                self._name(device, row.name.encode(), now_us)
            for address in map(address_bytes, row.addresses):
                if address in self.home and address not in self.own:
                    self._claim(device, address, now_us)
                    if self._holders.get(address) == mac and address in device.claims:
                        device.proven.add(address)
            self._pending.clear()

    # -- inside: devices ----------------------------------------------------------------------------------------

    def _hint(self, frame: bytes) -> Hint:
        hint = read(frame)
        if hint.mac in self.own:
            raise Refused("own")
        if hint.address is not None and hint.address in self.own:
            raise Refused("own_address")
        if hint.address is not None and hint.address not in self.home:
            raise Refused("not_home")
        return hint

    def _everyone(self) -> Iterator[Device]:
        yield from self._settled.values()
        yield from self._strangers.values()

    def _find(self, mac: bytes) -> Device | None:
        return self._settled.get(mac) or self._strangers.get(mac)

    def _device(self, mac: bytes, now_us: int) -> Device:
        if (device := self._settled.get(mac)) is not None:
            return device
        device = self._strangers.pop(mac, None)
        if device is None:
            if len(self._strangers) >= MAX_STRANGERS:
                self._remove(next(iter(self._strangers.values())))
                self._counts["forgotten"] += 1
            device = Device(mac, now_us, now_us)
        self._strangers[mac] = device
        return device

    def _settle(self, device: Device, now_us: int) -> None:
        """Give a device that has stayed its place among those that have; nobody heard within a day loses his to it."""
        if device.mac in self._settled or not device.is_settled:
            return
        if len(self._settled) >= MAX_SETTLED:
            silent = min(self._settled.values(), key=lambda each: each.last_us)
            if now_us - silent.last_us < FORGET_US:
                self._counts["no_room"] += 1
                return
            self._remove(silent)
            self._counts["forgotten"] += 1
        self._settled[device.mac] = self._strangers.pop(device.mac)
        for address in device.claims:
            if self._holders.get(address) == device.mac:
                device.prove(address)

    def _remove(self, device: Device) -> None:
        self._settled.pop(device.mac, None)
        self._strangers.pop(device.mac, None)
        for address in device.claims:
            if self._holders.get(address) == device.mac:
                del self._holders[address]
        if device.name is not None and self._name_holders.get(device.name) == device.mac:
            del self._name_holders[device.name]

    def _row(self, device: Device, addresses: Iterable[bytes]) -> DeviceRow:
        return DeviceRow(
            mac=mac_text(device.mac),
            name=device.name,
            addresses=tuple(address_text(each) for each in addresses if self._holders.get(each) == device.mac),
            wishes=device.wishes.hex(),
            is_settled=device.mac in self._settled,
        )

    # -- inside: names ------------------------------------------------------------------------------------------

    def _name(self, device: Device, raw: bytes, now_us: int) -> None:
        if (name := clean_name(raw)) is None:
            self._refused["bad_name"] += 1
            return
        before = device.name
        came = device.call(name, now_us)
        if came == "contested":
            self._counts["contested_names"] += 1
        if came in ("named", "renamed"):
            self._counts["renames"] += came == "renamed"
            if before is not None and self._name_holders.get(before) == device.mac:
                del self._name_holders[before]
            self._name_holders.setdefault(name, device.mac)

    def _shown_name(self, device: Device) -> str | None:
        """Return the name, with half of the MAC behind it where another device had the name first."""
        if device.name is None or self._name_holders.get(device.name) == device.mac:
            return device.name
        return f"{device.name} ({mac_text(device.mac)[9:]})"

    # -- inside: addresses --------------------------------------------------------------------------------------

    def _claim(self, device: Device, address: bytes, now_us: int) -> None:
        before = set(device.claims)
        if not device.claim(address, now_us):
            self._refused["too_many_addresses"] += 1
            return
        for dropped in before - set(device.claims):
            if self._holders.get(dropped) == device.mac:
                del self._holders[dropped]
        holder = self._holders.setdefault(address, device.mac)
        if holder != device.mac and not self._take_over(device, holder, address, now_us):
            self._counts["contested"] += 1
            return
        if device.mac in self._settled:
            device.prove(address)
            self._await_move(device, address, now_us)

    def _await_move(self, device: Device, address: bytes, now_us: int) -> None:
        """Remember that a device may be on its way; one that is new takes the place of one that is waited for."""
        key = device.mac, kind_of(address)
        if address in device.proven or all(kind_of(each) != key[1] for each in device.proven):
            return
        if key not in self._pending or device.claims[address].count == 1:
            self._pending[key] = address, now_us

    def _take_over(self, device: Device, holder: bytes, address: bytes, now_us: int) -> bool:
        """Give the address to a device that claims it steadily, once its holder has been silent for long enough."""
        other = self._find(holder)
        if other is not None:
            last_us = max(other.claims[address].last_us, self._deaf_us or 0)
            is_senior = device.mac in self._settled and holder in self._strangers
            if not device.claims[address].is_steady or (now_us - last_us < HOLD_US and not is_senior):
                return False
            other.leave(address)
        self._holders[address] = device.mac
        self._counts["takeovers"] += 1
        if len(self._takeovers) < MAX_TAKEOVERS:
            self._takeovers.append(address)
        return True

    def _is_confirmed(self, device: Device, old: bytes, new: bytes, now_us: int) -> bool:
        claimed = device.claims[new]
        quiet_since_us = max(claimed.first_us, device.claims[old].last_us, self._deaf_us or 0)
        is_rested = device.moved_us is None or now_us - device.moved_us >= REST_US
        return claimed.is_steady and now_us - quiet_since_us >= QUIET_US and is_rested

    def _move(self, device: Device, old: bytes, new: bytes, now_us: int) -> Move:
        device.moved_us = now_us
        device.leave(old)
        device.proven.add(new)
        del self._holders[old]
        del self._pending[device.mac, kind_of(new)]
        self._counts["moves"] += 1
        return Move(old=old, new=new, mac=device.mac)

    def _drop_move(self, key: tuple[bytes, str], why: str) -> None:
        del self._pending[key]
        self._refused_moves[why] += 1
