"""No octets break the reader or the meter: captures with something done to them, the same ones every time.

Case `k` is `mutated(k)` under the k-th settings; what a failing one was given lies in the test's folder. One case in
`ORACLE_EVERY` is held against the oracle, field by field.
"""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from flowfeatures import FlowMeter, FlowSettings
from tests.flowfeatures.difference import disagreements
from tests.flowfeatures.meters import measure
from tests.fuzz.captures import captures
from tests.fuzz.mutations import mutated
from tests.fuzz.properties import broken
from tests.fuzz.reading import read_to_the_end
from tests.oracle.meter import WTMC, Settings

CASES = 20_000
MORE_CASES = 200_000
CASES_A_TEST = 5_000
ORACLE_EVERY = 8
WAYS = (
    Settings(),
    Settings(partials=True),
    Settings(partials=True, max_flows=1),
    Settings(partials=True, max_flows=3, vlan_in_key=True),
    Settings(max_flows=12),
    Settings(partials=True, active_timeout_s=1, tcp_idle_timeout_s=1, other_idle_timeout_s=1, half_open_timeout_s=1),
    WTMC,
)
ENGINE_WAYS = tuple(FlowSettings(**asdict(how)) for how in WAYS)


def parts(first: int, count: int) -> list[range]:
    return [range(start, start + CASES_A_TEST) for start in range(first, first + count, CASES_A_TEST)]


def check(numbers: range, folder: Path) -> Iterator[str]:
    """Yield what is wrong with these cases."""
    path = folder / "case"
    for number in numbers:
        name, content = mutated(number)
        with path.open("r+b" if path.exists() else "wb") as file:  # a new file a case costs more than all the rest
            file.write(content)
            file.truncate()
        meter = FlowMeter(ENGINE_WAYS[number % len(WAYS)])
        chunks, frames, _ = read_to_the_end(path, meter)
        problems = broken(chunks, meter.counters, frames=frames)
        if not problems and number % ORACLE_EVERY == 0:
            how = WAYS[number // ORACLE_EVERY % len(WAYS)]
            oracle, engine = (measure(path, meter=meter, settings=how) for meter in ("oracle", "engine"))
            problems = [f"{how}: {line}" for line in disagreements(oracle, engine)[:5]]
        if problems:
            path.rename(folder / f"case-{number}")
        yield from (f"case {number}, made from {name}: {problem}" for problem in problems)


def check_all(numbers: range, folder: Path) -> str:
    """Return the first problems as text."""
    found = []
    for problem in check(numbers, folder):
        found.append(problem)
        if len(found) == 20:
            break
    return "\n".join(found)


@pytest.mark.parametrize("numbers", parts(0, CASES), ids=str)
def test_no_mutation_breaks_reader_or_meter(numbers: range, tmp_path: Path):
    problems = check_all(numbers, tmp_path)

    assert not problems, problems


@pytest.mark.slow
@pytest.mark.parametrize("numbers", parts(CASES, MORE_CASES), ids=str)
def test_no_mutation_of_many_breaks_reader_or_meter(numbers: range, tmp_path: Path):
    problems = check_all(numbers, tmp_path)

    assert not problems, problems


def test_seeds_hold_what_the_mutator_starts_from(tmp_path: Path):
    counted = {}

    for name, content in captures().items():
        path = tmp_path / name
        path.write_bytes(content)
        meter = FlowMeter(FlowSettings(partials=True))
        chunks, frames, _ = read_to_the_end(path, meter)
        counted[name] = meter.counters["decoded"]
        assert broken(chunks, meter.counters, frames=frames) == []

    assert {name for name, decoded in counted.items() if decoded < 10} == {"pcap_empty"}
