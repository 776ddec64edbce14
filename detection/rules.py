"""What the operator said: silence this for a time (a mute), that alert was benign (a benign rule), or malicious.

A mute names a device, a class, a peer, or several of them, and holds until it expires. A benign rule is narrow, since
whoever may write one could blind a gateway: it covers only records of the same device and class that look like the
marked incident's (`detection.prints`: embedding, protocol, port, direction, peer), in windows that score no surer by
themselves (suspicion that lasts makes surer what comes again, but no other thing of it), and no more of them an hour
than FLOW_FACTOR times what was marked; another attack of that class on that device still opens an incident. Both are
kept from incidents before one opens. `Rules` never change; every change makes new ones.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from contracts.classes import BENIGN, NAMES
from detection.decide import Detection, log_odds
from detection.evidence import Sighting, owners
from detection.prints import MAX_PRINTS, RADIUS, Print, is_near, prints_of
from detection.sample import HOUR_US
from detection.state import StrictState, TimeUs, checked
from flowfeatures import HomeNets, WindowBatch

WHAT: Final = "rules"
MAX_MUTES: Final = 256
MAX_BENIGN: Final = 256
MAX_VERDICTS: Final = 1024
MAX_EMBEDDING: Final = 1024
BENIGN_RULE_DAYS: Final = 30
FLOW_FACTOR: Final = 4
LEAST_FLOWS: Final = 16  # an hour, whatever was marked: a single login may be two tomorrow
MOST_FLOWS: Final = 16_384  # and no more, since their ids are remembered
SURER: Final = 1.0  # log-odds: a window that much surer than the marked incident is another thing
COMPANY_RADIUS: Final = 0.45  # of records beside which at least as many are within RADIUS
MANY_PORTS: Final = 8  # evidence on so many ports is a sweep, and the next one's ports are others
MANY_PEERS: Final = 8

Verdict = Literal["benign", "malicious"]
MacOf = Callable[[bytes], str | None]
IncidentId = Annotated[str, Field(pattern=r"^[0-9a-f-]{36}$")]
Mac = Annotated[str, Field(pattern=r"^[0-9a-f]{2}(:[0-9a-f]{2}){5}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Address = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$", description="16 octets in hex; IPv4 mapped into IPv6")]
ATTACKS: Final = tuple(name for index, name in enumerate(NAMES) if index != BENIGN)


class Mute(StrictState):
    """One mute. `device` is an address, a CIDR or a MAC; `peer` an address or CIDR: what is None, any fits."""

    id: Annotated[str, Field(pattern=r"^m-[0-9a-f]{8}$")]
    device: Annotated[str, Field(max_length=64)] | None = None
    attack_class: str | None = None
    peer: Annotated[str, Field(max_length=64)] | None = None
    created_us: TimeUs
    expires_us: TimeUs
    note: Annotated[str, Field(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")] = ""

    @field_validator("attack_class")
    @classmethod
    def _is_a_class(cls, name: str | None) -> str | None:
        if name is not None and name not in ATTACKS:
            raise ValueError(f"wanted one of {', '.join(ATTACKS)}")
        return name

    @field_validator("device", "peer")
    @classmethod
    def _is_an_address(cls, text: str | None) -> str | None:
        if text is not None and not is_mac(text):
            HomeNets([text])
        return text

    @model_validator(mode="after")
    def _names_something(self) -> Mute:
        if self.device is None and self.attack_class is None and self.peer is None:
            raise ValueError("a mute of everything is refused: name a device, a class or a peer")
        if self.peer is not None and is_mac(self.peer):
            raise ValueError(f"a peer is an address or a CIDR, got the MAC {self.peer}")
        return self


class PrintState(StrictState):
    """A print as it is kept on disk; `embedding` is base64 of float16."""

    embedding: Annotated[str, Field(max_length=4 * MAX_EMBEDDING)]
    proto: Annotated[int, Field(ge=0, le=255)]
    port: Annotated[int, Field(ge=0, le=65_535)]
    owner_attacks: bool
    peer: Address

    @field_validator("embedding")
    @classmethod
    def _is_an_embedding(cls, text: str) -> str:
        if not np.isfinite(_decoded(text)).all():
            raise ValueError("an embedding holds what is no number")
        return text

    @classmethod
    def of(cls, print_: Print) -> PrintState:
        limit = float(np.finfo(np.float16).max)
        packed = np.clip(np.nan_to_num(print_.embedding), -limit, limit).astype("<f2").tobytes()
        return cls(
            embedding=base64.b64encode(packed).decode(),
            proto=print_.proto,
            port=print_.port,
            owner_attacks=print_.owner_attacks,
            peer=print_.peer.hex(),
        )


class BenignRule(StrictState):
    """One incident marked benign: what looks like it on that device opens no other one, until it expires."""

    id: Annotated[str, Field(pattern=r"^b-[0-9a-f]{8}$")]
    alert_id: IncidentId
    incident_id: IncidentId
    device: Address
    mac: Mac | None = None
    attack_class: str
    manifest_sha256: Sha256
    score: Annotated[float, Field(ge=0.0, le=1.0)]
    flows: Annotated[int, Field(ge=1, le=1 << 60)]
    prints: Annotated[list[PrintState], Field(min_length=1, max_length=MAX_PRINTS)]
    created_us: TimeUs
    expires_us: TimeUs

    @field_validator("attack_class")
    @classmethod
    def _is_a_class(cls, name: str) -> str:
        if name not in ATTACKS:
            raise ValueError(f"wanted one of {', '.join(ATTACKS)}")
        return name

    @model_validator(mode="after")
    def _one_network(self) -> BenignRule:
        if len({len(each.embedding) for each in self.prints}) != 1:
            raise ValueError("prints are of embeddings of different lengths")
        if self.expires_us > self.created_us + BENIGN_RULE_DAYS * 24 * HOUR_US:
            raise ValueError(f"a benign rule lasts {BENIGN_RULE_DAYS} days at most")
        return self


class RulesState(StrictState):
    """rules.json: everything the operator said, the oldest first."""

    format: Literal[1] = 1
    mutes: Annotated[list[Mute], Field(max_length=MAX_MUTES)] = Field(default_factory=list)
    benign: Annotated[list[BenignRule], Field(max_length=MAX_BENIGN)] = Field(default_factory=list)
    verdicts: Annotated[dict[IncidentId, Verdict], Field(max_length=MAX_VERDICTS)] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _ids_differ(self) -> RulesState:
        ids = [mute.id for mute in self.mutes] + [rule.id for rule in self.benign]
        if len(set(ids)) != len(ids):
            raise ValueError("two rules have the same id")
        return self


@dataclass(frozen=True)
class _Muted:
    rule: Mute
    device: HomeNets | None
    peer: HomeNets | None
    class_index: int | None


@dataclass(frozen=True, eq=False)
class _Benign:
    rule: BenignRule
    device: bytes
    class_index: int
    surest: float
    flows_per_hour: int
    embeddings: NDArray[np.float32]  # [K, E]
    protos: NDArray[np.int64]
    ports: NDArray[np.int64] | None  # None: any
    owner_attacks: NDArray[np.bool_]
    peers: frozenset[bytes] | None  # None: any


class Rules:
    """All rules of a moment, ready to be asked."""

    def __init__(self, state: RulesState | None = None) -> None:
        self.state = state or RulesState()
        self.mutes = [_muted(each) for each in self.state.mutes]
        self.benign = [_benign(each) for each in self.state.benign]

    @classmethod
    def restored(cls, state: Mapping[str, Any]) -> Rules:
        """Return the rules of a dict. Raises StateRefused where it is not one of rules."""
        return cls(checked(RulesState, state, what=WHAT))

    def __len__(self) -> int:
        return len(self.mutes) + len(self.benign)

    @property
    def answered(self) -> frozenset[tuple[str, bytes]]:
        """Return each benign rule's id with every address its incident was seen at: who did it, and to whom."""
        seen = ((each, {each.device, *(bytes.fromhex(one.peer) for one in each.rule.prints)}) for each in self.benign)
        return frozenset((each.rule.id, address) for each, addresses in seen for address in addresses)

    @property
    def dismissed_us(self) -> Mapping[str, int]:
        """Return the incidents that were called benign, by their ids, and when; 0 where no rule of it is left."""
        known = {each.rule.incident_id: each.rule.created_us for each in self.benign}
        return {name: known.get(name, 0) for name, verdict in self.verdicts.items() if verdict == "benign"}

    @property
    def verdicts(self) -> Mapping[str, Verdict]:
        """Return what was said of incidents, by their ids."""
        return self.state.verdicts


class Suppressor:
    """Take out of sightings what rules answer for, and count it.

    `mac_of` tells the MAC of an address: None where nobody claims one, empty where one is claimed and not proven, which
    fits no rule that names one. Where it is None a benign rule fits the address it was made at, a mute by MAC nothing.
    """

    def __init__(self, rules: Rules, *, manifest_sha256: str, mac_of: MacOf | None = None) -> None:
        self.rules = rules
        self.muted = 0
        self.known_benign = 0
        self._manifest_sha256 = manifest_sha256
        self._mac_of: MacOf = mac_of or (lambda _: None)
        self._flows: dict[str, tuple[int, set[int]]] = {}  # of a rule: the hour, and the flows it answered for

    def copy(self) -> Suppressor:
        """Return one that may be asked without this one's counting it."""
        if not len(self.rules):
            return self  # nothing will be counted
        other = copy(self)
        other._flows = dict(self._flows)
        return other

    def change(self, rules: Rules) -> None:
        """Go by other rules; what the old ones have in common with them keeps its count of the hour."""
        self.rules = rules
        ids = {each.rule.id for each in rules.benign}
        self._flows = {name: flows for name, flows in self._flows.items() if name in ids}

    def use(self, manifest_sha256: str) -> None:
        """Go by another bundle: benign rules of the one before rest."""
        self._manifest_sha256 = manifest_sha256

    def left_of(self, sighting: Sighting) -> Sighting | None:
        """Return what is left of a sighting, which is itself where no rule fits; None where nothing is."""
        if not len(self.rules):
            return sighting
        muted = self._mask(sighting, self._muted)
        benign = ~muted & self._mask(sighting, self._known_benign)
        gone = muted | benign
        if not gone.any():
            return sighting
        if not gone.all():
            return sighting.only(~gone)
        self.muted += bool(muted.any())
        self.known_benign += not muted.any()
        return None

    def may_know(self, batch: WindowBatch, suspect: Detection, *, home: HomeNets) -> bool:
        """Return whether a benign rule may answer for anything of a window: cheaper than to look for its evidence."""
        of_what, own_score, due_us = suspect.class_index, suspect.score, int(batch.due_us[suspect.row])
        rules = [each for each in self.rules.benign if self._is_of(each, of_what, own_score, due_us)]
        found = owners(batch, suspect.row, class_index=of_what, home=home) if rules else ()
        return any(self._is_its_device(each, owner) for owner in found for each in rules)

    def knows(self, seen: Sequence[Sighting]) -> bool:
        """Return whether rules, a benign one among them, leave nothing of what was seen. Wears out none of them."""
        asked = self.copy()
        is_left = not seen or any(asked.left_of(each) is not None for each in seen)
        return not is_left and asked.known_benign > self.known_benign

    def _mask(self, sighting: Sighting, fits: Callable[[Sighting], list[NDArray[np.bool_]]]) -> NDArray[np.bool_]:
        gone = np.zeros(len(sighting.records), np.bool_)
        for each in fits(sighting):
            gone |= each
        return gone

    def _muted(self, sighting: Sighting) -> list[NDArray[np.bool_]]:
        return [
            self._of_peer(sighting, each.peer)
            for each in self.rules.mutes
            if each.rule.created_us <= sighting.due_us < each.rule.expires_us
            and each.class_index in (None, sighting.class_index)
            and self._is_device(each, sighting)
        ]

    def _is_device(self, muted: _Muted, sighting: Sighting) -> bool:
        if muted.rule.device is None:
            return True
        if muted.device is not None:
            return sighting.owner in muted.device
        return self._mac_of(sighting.owner) == muted.rule.device

    def _of_peer(self, sighting: Sighting, peer: HomeNets | None) -> NDArray[np.bool_]:
        if peer is None:
            return np.ones(len(sighting.records), np.bool_)
        ends = zip(sighting.attackers, sighting.victims, strict=True)
        return np.array([any(end in peer for end in pair if end != sighting.owner) for pair in ends])

    def _known_benign(self, sighting: Sighting) -> list[NDArray[np.bool_]]:
        fitting = [each for each in self.rules.benign if self._fits(each, sighting)]
        prints = prints_of(sighting) if fitting else []
        return [self._like(each, sighting, prints) for each in fitting]

    def _fits(self, known: _Benign, sighting: Sighting) -> bool:
        of_what, own_score, due_us = sighting.class_index, sighting.own_score, sighting.due_us
        return self._is_its_device(known, sighting.owner) and self._is_of(known, of_what, own_score, due_us)

    def _is_its_device(self, known: _Benign, owner: bytes) -> bool:
        mac = None if known.rule.mac is None else self._mac_of(owner)
        return owner == known.device if mac is None else mac == known.rule.mac

    def _is_of(self, known: _Benign, class_index: int, own_score: float, due_us: int) -> bool:
        return (
            known.class_index == class_index
            and known.rule.manifest_sha256 == self._manifest_sha256
            and known.rule.created_us <= due_us < known.rule.expires_us
            and float(log_odds(own_score)) <= known.surest + SURER
        )

    def _like(self, known: _Benign, sighting: Sighting, prints: Sequence[Print]) -> NDArray[np.bool_]:
        """Return which records look like the rule's, as long as they are not too many this hour."""
        like = np.array([_is_like(known, each) for each in prints])
        if 2 * like.sum() >= len(prints):  # company: the same traffic scatters, and one straggler opens no incident
            like = np.array([_is_like(known, each, radius=COMPANY_RADIUS) for each in prints])
        hour, seen = self._flows.get(known.rule.id, (0, set()))
        if hour != sighting.due_us // HOUR_US:
            hour, seen = sighting.due_us // HOUR_US, set()
        flows = set(sighting.records["flow_id"][like].tolist())
        folded = int(sighting.group_flows[like].max(initial=0))
        seen = seen | flows if len(seen) <= known.flows_per_hour else seen
        self._flows[known.rule.id] = (hour, seen)
        if max(len(seen), folded) > known.flows_per_hour:
            return np.zeros(len(prints), np.bool_)
        return like


def is_mac(text: str) -> bool:
    """Return whether a text is a MAC as rules write it."""
    parts = text.split(":")
    return len(parts) == 6 and all(len(part) == 2 and set(part) <= set("0123456789abcdef") for part in parts)


def _is_like(known: _Benign, one: Print, *, radius: float = RADIUS) -> bool:
    if known.peers is not None and one.peer not in known.peers:
        return False
    if len(one.embedding) != known.embeddings.shape[1]:
        return False
    same = (known.protos == one.proto) & (known.owner_attacks == one.owner_attacks)
    if known.ports is not None:
        same &= known.ports == one.port
    return bool((same & is_near(one.embedding, known.embeddings, radius=radius)).any())


def _muted(rule: Mute) -> _Muted:
    is_named = rule.device is not None and not is_mac(rule.device)
    return _Muted(
        rule=rule,
        device=HomeNets([rule.device]) if is_named and rule.device else None,
        peer=None if rule.peer is None else HomeNets([rule.peer]),
        class_index=None if rule.attack_class is None else NAMES.index(rule.attack_class),
    )


def _benign(rule: BenignRule) -> _Benign:
    prints = rule.prints
    ports, peers = {each.port for each in prints}, frozenset(bytes.fromhex(each.peer) for each in prints)
    return _Benign(
        rule=rule,
        device=bytes.fromhex(rule.device),
        class_index=NAMES.index(rule.attack_class),
        surest=float(log_odds(rule.score)),
        flows_per_hour=min(max(LEAST_FLOWS, FLOW_FACTOR * rule.flows), MOST_FLOWS),
        embeddings=np.stack([_decoded(each.embedding) for each in prints]),
        protos=np.array([each.proto for each in prints]),
        ports=None if len(ports) >= MANY_PORTS else np.array([each.port for each in prints]),
        owner_attacks=np.array([each.owner_attacks for each in prints]),
        peers=None if len(peers) >= MANY_PEERS else peers,
    )


def _decoded(text: str) -> NDArray[np.float32]:
    try:
        packed = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise ValueError("an embedding is base64 of float16") from exc
    if not packed or len(packed) % 2:
        raise ValueError(f"an embedding is base64 of float16, got {len(packed)} octets")
    return np.frombuffer(packed, "<f2").astype(np.float32)
