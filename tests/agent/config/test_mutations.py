"""The sample, mutated a thousand ways: each is either a configuration or refused with 78 and one line."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.commands.check_config import add_arguments, run
from agent.config.pages import sample
from contracts.program import Parser, run_program

MUTANTS = 1000
VALUES = (
    '""', '"eth0"', "0", "-1", "1e400", "nan", "-inf", "true", "[]", "[1]", "{}", "2026-01-01", '"../x"', '"/dev/zero"',
    "9" * 40, '"\\u0000"', '"\\u001b[2J"', '"' + "x" * 4000 + '"', "[[[1]]]", '["a", "a"]', "0x10", "'mqtts://a:b@c'",
)  # fmt: skip


def flip_an_octet(text: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(text))
    return text[:at] + bytes([text[at] ^ (1 << chance.randrange(8))]) + text[at + 1 :]


def cut_it_off(text: bytes, chance: random.Random) -> bytes:
    return text[: chance.randrange(len(text))]


def double_a_line(text: bytes, chance: random.Random) -> bytes:
    lines = text.split(b"\n")
    at = chance.randrange(len(lines))
    return b"\n".join([*lines[: at + 1], *lines[at:]])


def drop_a_line(text: bytes, chance: random.Random) -> bytes:
    lines = text.split(b"\n")
    del lines[chance.randrange(len(lines))]
    return b"\n".join(lines)


def swap_two_lines(text: bytes, chance: random.Random) -> bytes:
    lines = text.split(b"\n")
    one, other = chance.randrange(len(lines)), chance.randrange(len(lines))
    lines[one], lines[other] = lines[other], lines[one]
    return b"\n".join(lines)


def give_another_value(text: bytes, chance: random.Random) -> bytes:
    lines = text.split(b"\n")
    at = chance.choice([at for at, line in enumerate(lines) if b" = " in line and not line.startswith(b"#")])
    lines[at] = lines[at].split(b" = ")[0] + b" = " + chance.choice(VALUES).encode()
    return b"\n".join(lines)


def misspell_a_key(text: bytes, chance: random.Random) -> bytes:
    lines = text.split(b"\n")
    at = chance.choice([at for at, line in enumerate(lines) if b" = " in line and not line.startswith(b"#")])
    where = chance.randrange(lines[at].index(b" = "))
    lines[at] = lines[at][:where] + chance.choice([b"", b"_", b"x", b"."]) + lines[at][where + 1 :]
    return b"\n".join(lines)


def put_in_noise(text: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(text))
    return text[:at] + chance.randbytes(chance.randrange(1, 9)) + text[at:]


MUTATIONS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    flip_an_octet,
    cut_it_off,
    double_a_line,
    drop_a_line,
    swap_two_lines,
    give_another_value,
    misspell_a_key,
    put_in_noise,
)


def checked(file: Path) -> int:
    parser = Parser(prog="penstock check-config")
    add_arguments(parser)
    return run_program("penstock", lambda: run(parser.parse_args([str(file)])))


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda each: each.__name__)
def test_a_mutant_of_the_sample_is_a_configuration_or_refused_in_one_line(
    mutation: Callable[[bytes, random.Random], bytes], tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    chance = random.Random(mutation.__name__)
    file = tmp_path / "agent.toml"
    # Whole, but for what names files that are not there: the settings are tested here, not the files.
    whole = "\n".join(
        line for line in sample(active=True).split("\n") if not line.startswith(("bundle =", "password_"))
    )
    whole = whole.replace("username =", "#username =").replace('transport = "udp"', 'transport = "tls"')
    whole = "\n".join(line for line in whole.split("\n") if not line.startswith(("ca_file", "cert_file", "key_file")))
    file.write_text(whole)
    assert checked(file) == 0
    capfd.readouterr()
    refused = 0

    for _ in range(MUTANTS // len(MUTATIONS)):
        mutant = whole.encode()
        for _ in range(chance.choice([1, 1, 1, 2, 5])):
            mutant = mutation(mutant, chance) or b"\n"
        file.write_bytes(mutant)

        code = checked(file)

        said = [line for line in capfd.readouterr().err.splitlines() if "warning: " not in line]
        assert code in (0, 78), mutant
        assert len(said) == (code == 78), said
        assert all(line.startswith("penstock: ") and line.isprintable() and len(line) < 1000 for line in said), said
        refused += code == 78

    assert refused > 0
