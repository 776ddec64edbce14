"""SIGHUP: the settings are read anew and applied whole, or not at all.

Everything that can fail happens first and changes nothing: reading, checking, opening files, loading a bundle. Then the
new settings take effect between two turns, in steps that cannot fail. What wants a restart is told, and refused with
all the rest: half a change is one nobody asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from agent.config import AgentConfig, changed, want_restart
from contracts.errors import ConfigError, PenstockError
from contracts.terminal import complain

APPLIED = "applied"
Commit = Callable[[], None]
Prepare = Callable[[AgentConfig, AgentConfig], Commit]
"""From the settings before and after to what makes them hold. Raises PenstockError, and then nothing has changed."""


class Reload:
    """Apply new settings through `parts`. `config` is what holds now, `last` what came of the last attempt."""

    def __init__(self, config: AgentConfig, *, load: Callable[[], AgentConfig], parts: Sequence[Prepare]) -> None:
        self.config = config
        self.applied = 0
        self.refused = 0
        self.last = ""
        self._load = load
        self._parts = parts

    def __call__(self) -> bool:
        """Read the settings and let them hold; return whether they do."""
        try:
            after = self._load()
            settings = changed(self.config, after)
            if fixed := want_restart(settings):
                raise ConfigError(f"{', '.join(fixed)}: changed, wanted a restart for that; nothing is applied")
            commits = [prepare(self.config, after) for prepare in self._parts]
        except PenstockError as exc:
            self.refused += 1
            self.last = str(exc)
            complain(f"reload refused, the settings of before hold: {exc}")
            return False
        self.config = after
        self.applied += 1
        self.last = APPLIED
        for commit in commits:
            self._commit(commit)
        complain(f"reload applied: {', '.join(settings) or 'no setting has changed'}")
        return True

    def _commit(self, commit: Commit) -> None:
        """Let one part hold. It cannot fail; if it does, that is told, and no reason not to watch."""
        try:
            commit()
        except PenstockError as exc:
            self.last = f"applied, but: {exc}"
            complain(f"reload: {exc}")
