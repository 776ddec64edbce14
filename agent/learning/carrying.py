"""Messages of a round between the broker and the folder where `penstock-finetune` works; none of them is opened.

    <- fleet/F/round, fleet/F/anchors, GATEWAY/federation/down/N      federation/in/*.call, *.anchors, N.down
    -> GATEWAY/update/N, GATEWAY/federation/up/N                      federation/out/N.update, N.up

What comes is bounded in size and number and written whole; the same octets again change nothing. What goes out is first
moved to `federation/sending/`, so that the trainer may write the next file of that name meanwhile, and deleted there
once the outbox has it on disk: at worst it is sent twice, which an aggregator counts once. Where only private rounds
are answered, what begins as an unmasked update does is deleted instead.

Runs in a thread of its own (`Learning`): a slow disk holds nobody. Trap: names come from topics, which a broker
chooses; a file's name is made of digits and hex alone.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Protocol

from agent.delivery.inbox import Incoming, Subscription
from agent.delivery.letters import Posted
from contracts.agent_card import FOLDER
from contracts.anchors import MAX_ANCHORS_BYTES
from contracts.errors import OutputError
from contracts.update import MAX_CALL_BYTES, UPDATE_MAGIC
from contracts.whole_file import read_bounded, write_whole

MAX_DOWN_BYTES: Final = 64 * 1024
MAX_OUT_BYTES: Final = 64 * 1024
MOST_FILES: Final = 4  # of a kind in `in/`: the newest
MAX_ROUND_DIGITS: Final = 10
DURABLE_WITHIN_S: Final = 5.0
CONTENT_TYPE: Final = "application/octet-stream"
OUT: Final = {".update": "update", ".up": "federation/up"}
UNFIT: Final = (errno.EFBIG, errno.EINVAL, errno.ELOOP)  # too large, no regular file, a link
_OUT_NAME: Final = re.compile(r"[0-9]{1,10}\.(update|up)")


class Post(Protocol):
    """How octets leave (Delivery.post)."""

    def __call__(self, topic: str, payload: bytes, *, content_type: str) -> Posted | None: ...


class Carrier:
    """Carry. `counts` are by direction and what came of it; only `turn` and `lay` touch the disk."""

    def __init__(self, state_dir: Path, *, gateway: str, fleet: str, post: Post, is_private_only: bool = False) -> None:
        folder = state_dir / FOLDER
        self.inbox, self.outbox, self.sending = folder / "in", folder / "out", folder / "sending"
        self.counts: Counter[str] = Counter()
        self.trouble = ""
        self._own = f"penstock/v1/{gateway}"
        self._fleet = f"penstock/v1/fleet/{fleet}"
        self._post = post
        self._is_private_only = is_private_only

    @property
    def subscriptions(self) -> list[Subscription]:
        """Return what is to be heard."""
        return [
            Subscription(f"{self._fleet}/round", MAX_CALL_BYTES),
            Subscription(f"{self._fleet}/anchors", MAX_ANCHORS_BYTES),
            Subscription(f"{self._own}/federation/down/+", MAX_DOWN_BYTES),
        ]

    def lay(self, messages: Iterable[Incoming]) -> set[str]:
        """Put messages where the trainer finds them; return what came, in words of `contracts.agent_card.WANTED`."""
        came = set()
        for message in messages:
            name = self._name_of(message)
            if name is None or not message.payload:  # an empty one clears what was retained
                continue
            try:
                if self._lay(self.inbox / name, message.payload) and not name.endswith(".anchors"):
                    came.add(name.rpartition(".")[2])
            except OutputError as exc:
                self.counts["in failed"] += 1
                self.trouble = str(exc)
        return came

    def lying(self) -> set[str]:
        """Return what lies in `in/`, answered or not, in words of `contracts.agent_card.WANTED`."""
        return {path.suffix[1:] for path in self.inbox.glob("*")} & {"call", "down"}

    def turn(self) -> None:
        """Hand what lies in `out/` to the outbox."""
        try:
            self.sending.mkdir(parents=True, exist_ok=True)
            for path in self._leaving():
                self._send(path)
            self.trouble = ""
        except OSError as exc:
            self.counts["out failed"] += 1
            self.trouble = f"{self.sending}: {exc.strerror or exc}"

    # -- inside -------------------------------------------------------------------------------------------------

    def _name_of(self, message: Incoming) -> str | None:
        """Return the file a message belongs in; None where it is none of ours."""
        if message.topic == f"{self._fleet}/round":
            return f"{hashlib.sha256(message.payload).hexdigest()[:16]}.call"
        if message.topic == f"{self._fleet}/anchors":
            return f"{hashlib.sha256(message.payload).hexdigest()[:16]}.anchors"
        number = message.topic.removeprefix(f"{self._own}/federation/down/")
        if number == message.topic:
            return None
        if not (number.isascii() and number.isdecimal() and len(number) <= MAX_ROUND_DIGITS):
            self.counts["in refused"] += 1
            return None
        return f"{int(number):010d}.down"

    def _lay(self, path: Path, payload: bytes) -> bool:
        """Write a file unless it is there already; return whether it was written."""
        with contextlib.suppress(OSError):
            if read_bounded(path, most_bytes=len(payload)) == payload:
                self.counts["in repeated"] += 1
                return False
        write_whole(path, payload)
        self.counts["in taken"] += 1
        alike = sorted(self.inbox.glob(f"*{path.suffix}"), key=lambda each: each.lstat().st_mtime_ns, reverse=True)
        for old in alike[MOST_FILES:]:
            old.unlink(missing_ok=True)
        return True

    def _leaving(self) -> list[Path]:
        """Return what is to be sent: what was moved here before, and what lies in `out/` and is moved now."""
        if self.outbox.is_dir():
            for path in sorted(self.outbox.iterdir()):
                target = self.sending / path.name
                if _OUT_NAME.fullmatch(path.name) and not path.is_symlink() and not target.exists():
                    os.replace(path, target)
        return [path for path in sorted(self.sending.iterdir()) if _OUT_NAME.fullmatch(path.name)]

    def _send(self, path: Path) -> None:
        try:
            payload = read_bounded(path, most_bytes=MAX_OUT_BYTES)
        except OSError as exc:
            if exc.errno not in UNFIT:
                raise  # it may be read another time
            self.counts["out refused"] += 1
            path.unlink(missing_ok=True)
            return
        if self._is_private_only and payload[: len(UPDATE_MAGIC)] == UPDATE_MAGIC:
            self.counts["out unmasked"] += 1  # left from before the setting, or by a trainer that did not know it
            path.unlink(missing_ok=True)
            return
        topic = f"{self._own}/{OUT[path.suffix]}/{int(path.stem)}"
        posted = self._post(topic, payload, content_type=CONTENT_TYPE)
        if posted is not None and posted.wait(DURABLE_WITHIN_S):
            path.unlink(missing_ok=True)
            self.counts["out sent"] += 1
