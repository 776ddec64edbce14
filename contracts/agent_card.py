"""What the agent tells the trainer beside it: who this gateway is, whose rounds it answers, which bundle serves.

`federation/agent.json` in the state folder, written by the agent whenever it changes, read by `penstock-finetune` for
what its options leave open. `federation/wanted` beside it asks for an early run and says why, in words of WANTED; the
trainer renames it to `taken` first of all, so what is asked for meanwhile is another run, and deletes that at its end:
a run that was killed is asked for still, once. Trap: the card says where a bundle stands, not that it is to be trusted;
whoever reads it loads the bundle with the keys of the trust folder.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from contracts.bundle import first_complaint
from contracts.errors import PenstockError
from contracts.update import Name, Sha256
from contracts.whole_file import read_bounded, write_whole

FOLDER: Final = "federation"
CARD_FILE: Final = "agent.json"
WANTED_FILE: Final = "wanted"
TAKEN_FILE: Final = "taken"
WANTED: Final = ("call", "down", "verdicts", "drift")
"""Why an early run is asked for: a round opened, a private round went on, an operator judged, the site drifted."""
MAX_CARD_BYTES: Final = 64 * 1024

_Path = Annotated[str, Field(min_length=1, max_length=4096, pattern=r"^/[^\x00]*$")]


class CardRefused(PenstockError):
    """The agent's card cannot be read as one."""

    exit_code = 65


class AgentCard(BaseModel):
    """The card. `bundle` is the folder of the one that serves, None: the one inside the package.

    With `private_only` rounds of another mode than `private` are not answered.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: Literal[1] = 1
    gateway: Name
    fleet: Name
    bundle: _Path | None
    bundle_sha256: Sha256
    trust: _Path
    aggregators: _Path
    private_only: bool = False


def write_card(state_dir: Path, card: AgentCard) -> None:
    """Put the card where the trainer finds it. Raises OutputError."""
    write_whole(state_dir / FOLDER / CARD_FILE, card.model_dump_json().encode() + b"\n")


def read_card(state_dir: Path) -> AgentCard | None:
    """Return the card, None where no agent ever left one. Raises CardRefused."""
    path = state_dir / FOLDER / CARD_FILE
    try:
        return AgentCard.model_validate_json(read_bounded(path, most_bytes=MAX_CARD_BYTES))
    except FileNotFoundError:
        return None
    except ValidationError as exc:
        raise CardRefused(f"{path}: {first_complaint(exc)}") from exc
    except OSError as exc:
        raise CardRefused(f"{path}: cannot be read: {exc.strerror or exc}") from exc


def want_run(state_dir: Path, reasons: set[str]) -> None:
    """Ask for a run, for these reasons and those asked for already. Raises OutputError."""
    asked = reasons | wanted(state_dir)
    write_whole(state_dir / FOLDER / WANTED_FILE, " ".join(sorted(asked & set(WANTED))).encode() + b"\n")


def wanted(state_dir: Path) -> set[str]:
    """Return why a run is asked for; nothing where it is not, or by a file that says nothing known."""
    return _words(state_dir / FOLDER / WANTED_FILE)


def taken_up(state_dir: Path) -> set[str]:
    """Take up the wish for a run, or for one that was killed, and return why there was one. Raises OSError.

    What was killed twice is not asked for again: it would be killed for ever, as one that has not enough memory is.
    """
    wish, taken = state_dir / FOLDER / WANTED_FILE, state_dir / FOLDER / TAKEN_FILE
    before = _words(taken)
    try:
        os.replace(wish, taken)
    except FileNotFoundError:
        taken.unlink(missing_ok=True)
        return before
    return before | _words(taken)


def run_ended(state_dir: Path) -> None:
    """Let the wish that was taken up be done with, whatever came of the run."""
    with contextlib.suppress(OSError):
        (state_dir / FOLDER / TAKEN_FILE).unlink()


def _words(path: Path) -> set[str]:
    try:
        words = read_bounded(path, most_bytes=4096).decode(errors="replace").split()
    except OSError:
        return set()
    return set(words) & set(WANTED)
