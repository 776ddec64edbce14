"""The operator's rules on disk: `rules.json` in the state folder, read by the agent, written by commands.

Commands take a lock, read, change and replace the file, so two of them lose nothing; the agent only ever reads, and
needs no signal: it asks the file's stamp. What is broken is refused whole: the agent keeps the last good rules.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from agent.state.state_file import load_state, save_state
from contracts.errors import OutputError
from detection.rules import MAX_VERDICTS, Rules, RulesState, Verdict
from detection.state import StateRefused

RULES_FILE: Final = "rules.json"
STATE_DIR: Final = Path("/var/lib/penstock")

_Stamp = tuple[int, int, int, int]


class RulesFile:
    """Rules as they stand in a file; `trouble` says what is wrong with it now, and is empty where nothing is."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.trouble = ""
        self._stamp: _Stamp | None = None
        self._rules = Rules()

    def current(self) -> Rules:
        """Return the rules in force: the same object as long as the file does not change. Never raises."""
        stamp = self._stamp_now()
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._rules = self.read()
                self.trouble = ""
            except StateRefused as exc:
                self.trouble = str(exc)
        return self._rules

    def read(self) -> Rules:
        """Return what the file holds; no rules where there is none. Raises StateRefused."""
        state = load_state(self.path)
        if state is None:
            return Rules()
        try:
            return Rules.restored(state)
        except StateRefused as exc:
            raise StateRefused(f"{self.path}: {exc}") from exc

    def change(self, change: Callable[[RulesState], RulesState], *, now_us: int) -> RulesState:
        """Replace the rules by what `change` makes of them, without those that expired; return the new ones.

        Raises StateRefused where the file is broken, OutputError where it cannot be written.
        """
        with self._locked():
            state = change(_without_expired(self.read().state, now_us=now_us))
            save_state(self.path, state.model_dump())
        return state

    def _stamp_now(self) -> _Stamp | None:
        try:
            facts = self.path.stat()
        except OSError:
            return None
        return facts.st_ino, facts.st_mtime_ns, facts.st_size, facts.st_ctime_ns

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the folder's lock: the file itself is another one after every change."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as exc:
            raise OutputError(f"{self.path.parent}: cannot be used: {exc.strerror or exc}") from exc
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def with_verdict(state: RulesState, incident_id: str, verdict: Verdict) -> RulesState:
    """Return rules that know a verdict; of too many the oldest is forgotten."""
    verdicts = {name: said for name, said in state.verdicts.items() if name != incident_id}
    verdicts[incident_id] = verdict
    kept = dict(list(verdicts.items())[-MAX_VERDICTS:])
    return RulesState(mutes=state.mutes, benign=state.benign, verdicts=kept)


def _without_expired(state: RulesState, *, now_us: int) -> RulesState:
    return RulesState(
        mutes=[each for each in state.mutes if each.expires_us > now_us],
        benign=[each for each in state.benign if each.expires_us > now_us],
        verdicts=dict(state.verdicts),
    )
