"""What is around the gateway: home networks, devices and their names, whom never to ban, and when it is too quiet.

Everything here is asked of the kernel or heard on the wire, now and then, and tells the pipeline between two turns. An
interface may come later: then its networks and devices are asked for anew, and what was home stays home.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from agent.capture.interface import index_of
from agent.capture.several import Several
from agent.config import AgentConfig
from agent.devices import Devices, DeviceWatch, Move, home_nets_of, joined, own_addresses
from agent.live.chores import Aside
from agent.live.crowd import Crowd
from agent.live.gathering import counted
from agent.live.never_ban import own_infrastructure
from agent.live.silence import RecordTally, SilenceAlarms, SilenceSettings
from agent.monitoring.facts import HEARD, DeviceFacts, HeardDevice, SilenceFacts
from agent.state.saved import StateFile
from contracts.errors import DataMissing, PenstockError
from contracts.terminal import complain
from flowfeatures import DEFAULT_HOME_NETS, DeviceWindows, FlowFeaturesError, HomeNets, address_text

DEVICES: Final = "devices.json"
MAX_NETS: Final = 64


class Neighbourhood:
    """Home networks and devices of the interfaces. `home_nets` are those that hold now."""

    def __init__(self, config: AgentConfig, *, state_dir: Path | None) -> None:
        self.config = config
        self.interfaces: tuple[str, ...] = config.capture.interfaces
        self.home_nets = self._found_nets(say=complain) or DEFAULT_HOME_NETS
        self.devices = Devices(home=HomeNets(self.home_nets), own=self._own())
        self.tallies: dict[str, RecordTally] = {}
        self._state = StateFile(None if state_dir is None else state_dir / DEVICES)
        self._watch: DeviceWatch | None = None
        self._watched: tuple[str, ...] = ()
        self._silence = SilenceAlarms(_silence_of(config))
        self._crowd = Crowd()
        self._told_us: dict[tuple[str, str], int] = {}
        self._broker: tuple[str, ...] = ()
        self._asking = Aside("penstock-resolve")
        self._restore()

    # -- home networks ------------------------------------------------------------------------------------------

    def grown(self) -> bool:
        """Ask for the home networks anew; return whether there are more. None ever leaves: addresses come and go."""
        found = self._found_nets(say=lambda _: None)
        if set(found) == set(joined(DEFAULT_HOME_NETS)) and self._known_nets():
            return False  # no interface has an address just now: what is known stands
        nets = joined([*self._known_nets(), *found])
        if self.config.capture.home_nets != "auto" or set(nets) == set(self.home_nets) or len(nets) > MAX_NETS:
            return False
        complain(f"home networks are now {', '.join(nets)}")
        self.home_nets = nets
        self.devices.home, self.devices.own = HomeNets(nets), self._own()
        for name, tally in self.tallies.items():
            self.tallies[name] = grown = RecordTally(HomeNets(nets))
            for count in ("one_way", "two_way", "sampled", "strange"):
                setattr(grown, count, getattr(tally, count))
        return True

    def _known_nets(self) -> tuple[str, ...]:
        return () if set(self.home_nets) == set(joined(DEFAULT_HOME_NETS)) else self.home_nets

    def _found_nets(self, *, say: Callable[[str], None]) -> tuple[str, ...]:
        """Return the networks of the interfaces that are there; the defaults of one count where no other has any."""
        configured = self.config.capture.home_nets
        if configured != "auto":
            return configured
        found = []
        for interface in self._present():
            with contextlib.suppress(DataMissing, OSError):  # gone again
                found.append(home_nets_of(interface, say=say))
        own = [nets for nets in found if nets != DEFAULT_HOME_NETS]
        return joined(net for nets in own or found for net in nets)

    # -- whom never to ban --------------------------------------------------------------------------------------

    def never_ban(self) -> tuple[str, ...]:
        """Return whom no alert may ask to ban: what is configured, what this gateway lives by, and itself."""
        own = [address_text(each) for each in self._own() if len(each) == 16]
        return (*self.config.capture.never_ban, *own_infrastructure(), *own, *self._broker)

    def ask_for_broker(self, url: str | None) -> None:
        """Look up the broker's addresses, in a thread of its own: a resolver may take long."""
        host = None if url is None else urlsplit(url).hostname
        if host is not None:
            self._asking.do(lambda: self._resolve(host))

    def _resolve(self, host: str) -> None:
        try:
            found = {str(each[4][0]) for each in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
        except OSError:
            return  # those of before hold
        self._broker = tuple(sorted(each.partition("%")[0] for each in found))

    def _own(self) -> frozenset[bytes]:
        found: set[bytes] = set()
        for interface in self._present():
            with contextlib.suppress(DataMissing, OSError):  # gone again
                found |= own_addresses(interface)
        return frozenset(found)

    # -- devices ------------------------------------------------------------------------------------------------

    def watch(self, windows: DeviceWindows) -> None:
        """Listen on the interfaces that are there, for these windows; what listened before ends."""
        self.close()
        self._watched = self._present()
        try:
            self._watch = DeviceWatch(self.devices, windows, interfaces=self._watched)
        except (PenstockError, FlowFeaturesError, OSError) as exc:
            complain(f"devices stay without names: {exc}")

    def has_come(self) -> bool:
        """Return whether an interface is there on which nobody listens yet."""
        return not set(self._present()) <= set(self._watched)

    def turn(self, clock_us: int) -> list[Move]:
        """Hear what devices say of themselves; return those that moved to another address, windows and all."""
        moves = [] if self._watch is None else self._watch.turn(clock_us)
        for move in moves:
            old, new = address_text(move.old), address_text(move.new)
            complain(f"device {move.mac.hex(':')} went from {old} to {new}, its window with it")
        return moves

    def mac_of(self, address: bytes) -> str | None:
        """Return the MAC by which rules know a device; empty, which fits no rule, where it is not proven."""
        return None if self._watch is None else self._watch.mac_of(address)

    def name_of(self, address: bytes) -> str:
        """Return a device's name, empty where it has none."""
        named = self.devices.named(address)
        return "" if named is None or named.name is None else named.name

    def facts(self) -> DeviceFacts:
        """Return the numbers of devices as they are now."""
        counts = self.devices.counts()
        behind_us = time.time_ns() // 1000 - time.monotonic_ns() // 1000  # from the clock of devices to that of people
        return DeviceFacts(
            devices=counts.devices,
            addresses=counts.addresses,
            named=counts.named,
            moves=counts.moves,
            takeovers=counts.takeovers,
            frames=counts.frames,
            refused=counted(counts.refused),
            dropped=counts.dropped,
            heard=tuple(
                HeardDevice(mac=who.mac, name=who.name or "", addresses=addresses, heard_us=last_us + behind_us)
                for who, addresses, last_us in self.devices.heard_last(HEARD)
            ),
        )

    def saving(self) -> Callable[[], object]:
        """Return what puts on disk what is known of devices; it may run in another thread."""
        state = self.devices.state()
        return lambda: self._state.write({"devices": state})

    def close(self) -> None:
        """Stop listening."""
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    def _present(self) -> tuple[str, ...]:
        return tuple(each for each in self.interfaces if index_of(each) is not None)

    def _restore(self) -> None:
        state = self._state.read()
        if state is None:
            return
        try:
            self.devices.restore(state.get("devices"), time.monotonic_ns() // 1000)
        except ValueError as exc:
            self._state.set_aside(f"{self._state.path}: {exc}")

    # -- silence ------------------------------------------------------------------------------------------------

    def tally_of(self, interface: str) -> RecordTally:
        """Return what counts the records of an interface."""
        return self.tallies.setdefault(interface, RecordTally(HomeNets(self.home_nets)))

    def check_silence(self, interfaces: Several, *, evicted_devices: int) -> bool:
        """Look whether it is too quiet, or too crowded; tell what has changed, and return whether anything has."""
        if self._crowd.check(evicted_devices):
            complain(self._crowd.text if self._crowd.since_us is not None else "devices can be watched again")
        sights = []
        for point in interfaces.points:
            counts = point.source.counts()
            tally = self.tally_of(point.interface)
            sights.append(tally.sight(point.interface, seen=counts.seen, dropped=counts.dropped))
        changes = self._silence.check(time.monotonic_ns() // 1000, sights)
        for silence in changes:
            key = (silence.interface, silence.kind)
            if silence.is_open:
                self._told_us[key] = time.time_ns() // 1000
                complain(f"silence: {silence.text}")
            else:
                self._told_us.pop(key, None)
                complain(f"silence is over: {silence.text}")
        return bool(changes)

    def silences(self) -> tuple[SilenceFacts, ...]:
        """Return the alarms that are open."""
        crowd = self._crowd
        crowds = (
            [] if crowd.since_us is None else [SilenceFacts(kind="devices", since_us=crowd.since_us, text=crowd.text)]
        )
        silences = [
            SilenceFacts(
                kind=each.kind,
                interface=each.interface,
                since_us=self._told_us.get((each.interface, each.kind), 0),
                text=each.text,
            )
            for each in self._silence.open
        ]
        return (*silences, *crowds)

    def change(self, config: AgentConfig) -> None:
        """Let new settings hold that were checked before."""
        if config.silence != self.config.silence:
            self._silence = SilenceAlarms(_silence_of(config))
        self.config = config


def _silence_of(config: AgentConfig) -> SilenceSettings:
    silence = config.silence
    return SilenceSettings(
        no_packets_s=silence.no_packets_s,
        drop_ratio=silence.drop_ratio,
        one_way_s=silence.one_way_s,
        home_nets_unseen_s=silence.home_nets_unseen_s,
    )
