"""What a fleet's rounds weigh on the wire: every message made as it is in the field, its octets counted by kind.

A fleet of so many gateways holds so many rounds through the aggregator's own state machine, in a file in memory's place
on disk, with deltas drawn at random: what a message weighs does not depend on what was learnt. Counted are the signed
messages themselves, each time one gateway sends or gets one, and what MQTT 5 puts around each (`mqtt_bytes`), between
gateway and broker; TLS's octets are not. Beside them FedAvg in float32, of the head and of the whole network, in the
same signed form: header, numbers, signature.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from benchmarks.mqtt_bytes import around
from contracts.anchors import Anchors, pack_anchors
from contracts.bundle import MODEL, MODEL_FLOAT, Bundle, load_bundle
from contracts.bundle_change import pack_change
from contracts.head import head_of, read_head, with_head
from contracts.masks import read_header
from contracts.rollout import OrderHeader, pack_archive, pack_order
from contracts.signed import pack
from contracts.update import Call, CallHeader, UpdateHeader, pack_call, pack_update, read_call
from detection.sustained import quiet_below
from exporter.bundle_folder import write_bundle
from federation.aggregator.anchors import OF_BENIGN, PER_ATTACK
from federation.aggregator.ledger import Ledger
from federation.aggregator.masked_rounds import MaskedRounds
from federation.aggregator.release import HoldOut
from federation.aggregator.rounds import Rounds, RoundSettings
from federation.privacy.masking import Participant, Seeds
from federation.privacy.protect import protect

if TYPE_CHECKING:
    from federation.privacy.protect import Floats

FLEET: Final = "homes"
BEGUN_US: Final = 1_800_000_000_000_000
HOUR_US: Final = 3_600_000_000
_KEY: Final = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
_PLAIN: Final = b"PSX0"
_DOWN: Final = {"shares": "roster", "masked": "relay", "consent": "survivors", "unmask": "consents"}


@dataclass
class Weighed:
    """Octets and messages by kind, each way, and `around` them what MQTT adds."""

    up: Counter[str] = field(default_factory=Counter)
    down: Counter[str] = field(default_factory=Counter)
    around: Counter[str] = field(default_factory=Counter)
    messages: Counter[str] = field(default_factory=Counter)

    def add(self, way: str, kind: str, octets: int, *, number: int = 0, times: int = 1) -> None:
        """Count a message of a round that so many gateways send or get."""
        (self.up if way == "up" else self.down)[kind] += octets * times
        self.around[way] += times * around(topic_of(way, kind, number=number), octets, way=way)
        self.messages[kind] += times

    @property
    def total(self) -> int:
        """Return all octets."""
        return self.up.total() + self.down.total() + self.around.total()


def topic_of(way: str, kind: str, *, number: int) -> str:
    """Return the topic that a message of a kind travels under, of a gateway as those here are named."""
    fleet, own = f"penstock/v1/fleet/{FLEET}", "penstock/v1/gateway-00"
    if way == "up":
        return f"{own}/update/{number}" if kind in ("update", "masked", "weights") else f"{own}/federation/up/{number}"
    of_all = {"call with the head": "round", "weights": "round", "anchors": "anchors", "bundle": "bundle/" + "0" * 64}
    if kind in of_all:
        return f"{fleet}/{of_all[kind]}"
    return f"{own}/manifest" if kind == "order" else f"{own}/federation/down/{number}"


class _Fleet:
    """Gateways by name, an aggregator, and what passes between them."""

    def __init__(self, bundle: Bundle, folder: Path, *, gateways: int, mode: str) -> None:
        self.weighed, self.bundle = Weighed(), bundle
        self.keys = {f"gateway-{number:02d}": Ed25519PrivateKey.generate() for number in range(gateways)}
        settings = RoundSettings(mode=mode, lasts_us=HOUR_US)  # type: ignore[arg-type]
        self.rounds = Rounds(Ledger(folder / f"{mode}.db"), bundle, fleet=FLEET, key=_KEY, settings=settings)
        for name, key in self.keys.items():
            self.rounds.enrol(name, key.public_key(), now_us=BEGUN_US)
        head = self.rounds.head
        nothing = np.zeros((2, head.embedding), np.float32)
        thresholds = quiet_below(bundle.manifest)
        self._hold_out = HoldOut(nothing, np.array([0, 1]), thresholds)
        self._rng = np.random.default_rng(1)
        self._now_us = BEGUN_US

    def hold_round(self) -> None:
        """Hold one round to its end."""
        self._now_us += HOUR_US
        message = self.rounds.open(now_us=self._now_us)
        call = read_call(message, [_KEY.public_key()])
        number = call.header.round
        self.weighed.add("down", "call with the head", len(message), number=number, times=len(self.keys))
        if call.header.mode == "private":
            self._private(call)
            return
        for name, key in self.keys.items():
            header = UpdateHeader(
                fleet=FLEET, round=call.header.round, gateway=name, call_sha256=call.sha256, examples=1800,
                made_us=self._now_us,
            )  # fmt: skip
            update = pack_update(header, protect(self._delta(call), call).steps, key)
            self.weighed.add("up", "update", len(update), number=number)
            self.rounds.submit(update, sender=name, now_us=self._now_us)
        self.rounds.close(now_us=self._now_us, hold_out=self._hold_out)

    def _private(self, call: Call) -> None:
        masked = MaskedRounds(self.rounds)
        members = {
            name: Participant(
                name=name, key=key, call=call, seeds=Seeds.drawn(), steps=protect(self._delta(call), call).steps,
                aggregators=(_KEY.public_key(),),
            )
            for name, key in self.keys.items()
        }  # fmt: skip
        answers = {name: member.keys() for name, member in members.items()}
        while True:
            for name, message in answers.items():
                self.weighed.add("up", read_header(message)[0], len(message), number=call.header.round)
                masked.submit(message, sender=name, now_us=self._now_us)
            state = masked.advance(now_us=self._now_us)
            if state is None or state not in _DOWN:
                break
            told = dict(masked.outgoing())
            for message in told.values():
                self.weighed.add("down", _DOWN[state], len(message), number=call.header.round)
            answers = {name: members[name].answer(message) for name, message in told.items()}
        closed = masked.close(now_us=self._now_us, hold_out=self._hold_out)
        if closed is None or closed.updates != len(self.keys):
            raise RuntimeError(f"a private round that came to nothing: {closed}")

    def _delta(self, call: Call) -> Floats:
        drawn: Floats = self._rng.normal(0.0, 0.03, call.header.parameters).astype(np.float32)
        return drawn


def rounds_of(bundle: Bundle, *, mode: str, gateways: int, rounds: int) -> Weighed:
    """Return what rounds weigh, with anchors, one order and one bundle for each gateway."""
    with tempfile.TemporaryDirectory() as folder:
        fleet = _Fleet(bundle, Path(folder), gateways=gateways, mode=mode)
        for _ in range(rounds):
            fleet.hold_round()
    for kind, octets in _once(bundle):
        fleet.weighed.add("down", kind, octets, times=gateways)
    return fleet.weighed


def plain_of(bundle: Bundle, *, gateways: int, rounds: int, numbers: int | None = None) -> Weighed:
    """Return what FedAvg in float32 weighs: of the head, or of so many numbers; one bundle besides, as ours."""
    head, weighed = read_head(bundle.model), Weighed()
    values = np.zeros(head.flat.size if numbers is None else numbers, "<f4")
    for number in range(1, rounds + 1):
        call = _call_header(bundle, number, parameters=head.flat.size)
        down = pack_call(call, head_of(head.flat), _KEY)
        if numbers is not None:
            down = pack(_PLAIN, call, values.tobytes(), key=_KEY, most_bytes=1 << 30)
        weighed.add("down", "weights", len(down), number=number, times=gateways)
        for gateway in range(gateways):
            header = UpdateHeader(
                fleet=FLEET, round=number, gateway=f"gateway-{gateway:02d}", call_sha256="0" * 64, examples=1800,
                made_us=BEGUN_US,
            )  # fmt: skip
            up = pack(_PLAIN, header, values.tobytes(), key=_KEY, most_bytes=1 << 30)
            weighed.add("up", "weights", len(up), number=number)
    for kind, octets in _once(bundle):
        if kind != "anchors":
            weighed.add("down", kind, octets, times=gateways)
    return weighed


def _once(bundle: Bundle) -> Iterator[tuple[str, int]]:
    """Give what a gateway gets once: anchors, as many as there may be of eleven classes, an order, and a new bundle."""
    manifest, head = bundle.manifest, read_head(bundle.model)
    count = OF_BENIGN + (len(head.bias) - 1) * PER_ATTACK
    anchors = Anchors(np.zeros((count, head.embedding), np.float32), np.arange(count) % len(head.bias))
    yield "anchors", len(pack_anchors(anchors, fleet=FLEET, bundle_sha256=bundle.manifest_sha256, key=_KEY))
    archive, change = next_release(bundle)
    order = OrderHeader(
        fleet=FLEET, gateway="gateway-00", number=1, release=manifest.release, bundle_sha256=bundle.manifest_sha256,
        archive_sha256="0" * 64, archive_bytes=len(archive), is_rollback=False, issued_us=BEGUN_US,
    )  # fmt: skip
    yield "order", len(pack_order(order, _KEY))
    yield "bundle", len(change)


def next_release(bundle: Bundle) -> tuple[bytes, bytes]:
    """Return what a bundle with another head, signed, travels as: the whole archive, and as a change to this bundle."""
    flat = read_head(bundle.model).flat
    moved = np.random.default_rng(1).normal(0.0, 0.03, flat.size)
    head = head_of((flat + moved).astype(np.float32))
    contents = {MODEL: with_head(bundle.model, head)}
    if MODEL_FLOAT in bundle.manifest.files:
        contents[MODEL_FLOAT] = with_head((bundle.path / MODEL_FLOAT).read_bytes(), head)
    manifest = bundle.manifest.model_copy(update={"release": bundle.manifest.release + 1, "benign_scores": None})
    with tempfile.TemporaryDirectory() as folder:
        write_bundle(Path(folder) / "next", contents, manifest, key=_KEY)
        archive = pack_archive(load_bundle(Path(folder) / "next"))
    return archive, pack_change(archive, base=pack_archive(bundle), base_sha256=bundle.manifest_sha256)


def _call_header(bundle: Bundle, number: int, *, parameters: int) -> CallHeader:
    settings = RoundSettings()
    return CallHeader(
        fleet=FLEET, round=number, mode="robust", bundle_sha256=bundle.manifest_sha256,
        schema_id=bundle.manifest.schema_id, parameters=parameters, kept=parameters, seed="0" * 64,
        clip_norm=settings.clip_norm, scale=settings.clip_norm * settings.largest_share / 127, opened_us=BEGUN_US,
        deadline_us=BEGUN_US + HOUR_US,
    )  # fmt: skip
