"""Configurations that are wrong: by construction, and by accident."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from agent.cli import main
from agent.config.model import sections
from tests.conftest import ROOT
from tests.faults.figures import Figures, times

pytestmark = pytest.mark.slow

WRONG, OK = 78, 0
SAMPLE = ROOT / "deploy" / "agent.toml"
# No setting takes one of these, whatever it is.
NO_VALUES = ("{}", "[[1]]", "1979-05-27", '"\\u0000"', "nan", "[{a = 1}]")
BROKEN = ("[capture", "capture]", "= 3", 'id = "', "id = ", "a b = 1", "[capture]\n[capture]", "\x00", "id = 1\nid = 2")


def settings() -> list[tuple[str, str]]:
    return [(name, key) for name, section in sections().items() for key in section.model_fields]


def by_construction(rng: random.Random) -> str:
    """Return a file that cannot be meant."""
    name, key = rng.choice(settings())
    kind = rng.randrange(4)
    if kind == 0:
        at = rng.randrange(len(key) + 1)
        return f"[{name}]\n{key[:at]}{rng.choice('xq7')}{key[at:]} = 1\n"
    if kind == 1:
        return f"[{name}{rng.choice('sxy')}]\n{key} = 1\n"
    if kind == 2:
        return f"[{name}]\n{key} = {rng.choice(NO_VALUES)}\n"
    return f"[{name}]\n{rng.choice(BROKEN)}\n"


def by_accident(text: str, rng: random.Random) -> bytes:
    """Return the shipped sample, every setting in it awake, as a bad disk or a slip of the hand leaves it."""
    octets = bytearray(text.encode())
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(octets))
        kind = rng.randrange(4)
        if kind == 0:
            octets[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del octets[at : at + rng.randrange(1, 30)]
        elif kind == 2:
            octets[at:at] = octets[at : at + rng.randrange(1, 60)]
        else:
            del octets[at:]
        octets = octets or bytearray(b"x")
    return bytes(octets)


def awake(text: str) -> str:
    """Return the sample with its commented settings in force, but those that name files this machine may not have."""
    lines = [line[1:] if re.match(r"#\w+ = ", line) else line for line in text.splitlines()]
    return "\n".join(line for line in lines if not re.match(r"(bundle|username|\w+_file) = ", line))


def test_what_is_wrong_ends_with_78_and_one_line_that_names_the_place(
    tmp_path: Path, figures: Figures, capsys: pytest.CaptureFixture[str]
):
    wrong, spoilt, rng = times(300, long=3_000), times(200, long=2_000), random.Random(1)
    file, sample = tmp_path / "agent.toml", awake(SAMPLE.read_text())
    file.write_text(sample)
    assert main(["check-config", str(file)]) == OK, capsys.readouterr().err
    capsys.readouterr()
    codes: dict[int, int] = {}
    astray: list[str] = []

    for number in range(wrong + spoilt):
        if number < wrong:
            file.write_text(by_construction(rng))
        else:
            file.write_bytes(by_accident(sample, rng))
        code = main(["check-config", str(file)])
        said = capsys.readouterr().err
        codes[code] = codes.get(code, 0) + 1
        is_one_line = said.count("\n") == 1 and str(file) in said and "Traceback" not in said
        if code != OK and (code != WRONG or not is_one_line):
            astray.append(f"{code} {said!r} for {file.read_bytes()[-200:]!r}")
        if code == OK and number < wrong:
            astray.append(f"taken: {file.read_text()!r}")

    figures.told(
        fault="configurations wrong by construction and by accident",
        goal="exit 78, one line",
        wrong_by_construction=wrong,
        spoilt_by_accident=spoilt,
        refused_with_78=codes.get(WRONG, 0),
        harmless_accidents=codes.get(OK, 0),
        astray=len(astray),
    )
    assert not astray, astray[:5]
