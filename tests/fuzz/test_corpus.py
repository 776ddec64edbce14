"""The committed corpus is the one its script writes, and each target stands it without sanitizers too."""

import random
from collections import Counter

import numpy as np
import pytest

from flowfeatures import FlowMeter, FlowSettings, open_capture
from tests.flowfeatures.packets import Conversation, write_pcap
from tests.fuzz import targets
from tests.fuzz.corpus import CORPUS
from tests.fuzz.mutations import mutated
from tests.fuzz.properties import broken
from tests.fuzz.reading import read_to_the_end
from tests.fuzz.script import CLOCK, FRAME, SETTINGS, TAGGED, TRAIN, Step, packed, unpacked

LARGEST_CORPUS_BYTES = 300_000


@pytest.mark.parametrize("name", targets.TARGETS)
def test_the_corpus_is_what_its_script_writes(name: str):
    committed = {path.name: path.read_bytes() for path in (CORPUS / name).iterdir()}

    assert committed == dict(targets.seeds_of(name)), "python -m tests.fuzz.corpus writes it anew"
    assert max(map(len, committed.values())) <= targets.TARGETS[name].max_bytes


def test_the_corpus_stays_small():
    assert sum(path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()) < LARGEST_CORPUS_BYTES


@pytest.mark.parametrize("name", ["streams"])
def test_targets_stand_their_seeds(name: str):
    run = targets.TARGETS[name].make()

    for _, content in targets.seeds_of(name):
        run(content)


def test_a_script_comes_back_as_it_was_packed():
    steps = [
        Step(FRAME, link=3, time=-5, unit=2, extra=9, octets=b"abc", more_on_wire=2, own_block=True),
        Step(TAGGED, time=2**31 - 1, unit=3, extra=0xFFFF, octets=b""),
        Step(TRAIN, extra=512, octets=bytes(70)),
        Step(CLOCK, time=-(2**31), unit=1),
    ]

    assert list(unpacked(packed(4, steps))) == steps


def test_any_octets_are_a_script():
    draw = random.Random(5)

    for size in range(300):
        for step in unpacked(draw.randbytes(size)):
            assert 0 <= step.kind <= 3


def test_seeds_of_packets_run_under_every_settings():
    assert {content[0] for _, content in targets.seeds_of("packets")} == set(range(len(SETTINGS)))


def test_mutations_reach_every_end_of_a_flow_and_every_reason(tmp_path):
    """A mutator that only breaks the framing would prove little."""
    ends, undecoded, path = Counter(), Counter(), tmp_path / "case"

    for number in range(400):
        path.write_bytes(mutated(number)[1])
        meter = FlowMeter(FlowSettings(partials=True, max_flows=12 if number % 2 else 1000))
        for records in read_to_the_end(path, meter)[0]:
            ends.update(records["end_reason"].tolist())
        undecoded.update(meter.counters["undecoded"])

    assert set(ends) == {0, 1, 2, 3, 4, 5}
    assert len(undecoded) == 7, undecoded


@pytest.mark.parametrize(
    ("claim", "change"),
    [
        ("every frame is counted", {"packets": 3}),
        ("packets = decoded + undecoded", {"undecoded": {"not_ip": 1}}),
        ("each decoded packet stands in one record", {"decoded": 3}),
        ("records are counted", {"records": 2}),
        ("partial records are counted", {"partial_records": 1}),
        ("nothing lives after flush", {"live_flows": 1}),
        ("every flow leaves a record", {"flows": 9}),
    ],
)
def test_a_wrong_count_is_seen(claim: str, change: dict, tmp_path):
    chunks, counters = two_packets(tmp_path)

    assert broken(chunks, counters, frames=2) == []
    assert claim in "".join(broken(chunks, counters | change, frames=2))


def test_a_column_that_is_no_number_is_seen(tmp_path):
    chunks, counters = two_packets(tmp_path)
    chunks[0]["columns"][0, 5] = np.nan

    assert "finite" in "".join(broken(chunks, counters, frames=2))


def two_packets(folder) -> tuple[list[np.ndarray], dict]:
    """Return records and counters of one flow of two packets."""
    path = write_pcap(folder / "two.pcap", Conversation().out(0, "S").back(1, "SA").frames)
    meter = FlowMeter()
    with open_capture(path) as capture:
        chunks = [*meter.read(capture), *meter.flush()]
    return [chunk.copy() for chunk in chunks], dict(meter.counters)
