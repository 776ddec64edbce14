"""The engine equals the oracle on every kind of frame: link types, tags, header chains, lengths that lie, cuts."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowfeatures.frames import FrameBlock
from tests.flowfeatures.difference import disagreements, report
from tests.flowfeatures.differential import compare
from tests.flowfeatures.meters import EngineFeed, OracleFeed
from tests.flowfeatures.packets import ETHERNET, START_US
from tests.flowfeatures.tally import DIFFERENTIAL_TALLY
from tests.flowfeatures.wires import Wire, frame, wires, write_wires
from tests.oracle.meter import Settings
from tests.oracle.reader import Frame

SLOW_TO_MAKE = [HealthCheck.too_slow, HealthCheck.data_too_large]
FUZZ = settings(deadline=None, max_examples=250, suppress_health_check=SLOW_TO_MAKE, derandomize=True)
SEARCH = settings(deadline=None, max_examples=4000, suppress_health_check=SLOW_TO_MAKE)
WAYS = st.sampled_from((Settings(), Settings(partials=True, vlan_in_key=True)))


@FUZZ
@given(sequence=st.lists(wires(), min_size=1, max_size=12), how=WAYS)
def test_engine_and_oracle_read_every_frame_alike(
    tmp_path_factory: pytest.TempPathFactory, sequence: list[Wire], how: Settings
):
    lines = compare(write_wires(tmp_path_factory.getbasetemp() / "wires.pcapng", sequence), how)

    assert not lines, report(lines, what=str(how))


@pytest.mark.slow
@SEARCH
@given(sequence=st.lists(wires(), min_size=1, max_size=30), how=WAYS)
def test_engine_and_oracle_read_frames_nobody_has_seen_alike(
    tmp_path_factory: pytest.TempPathFactory, sequence: list[Wire], how: Settings
):
    lines = compare(write_wires(tmp_path_factory.getbasetemp() / "search.pcapng", sequence), how)

    assert not lines, report(lines, what=str(how))


@settings(deadline=None, max_examples=25, suppress_health_check=SLOW_TO_MAKE, derandomize=True)
@given(wire=wires())
def test_engine_and_oracle_agree_wherever_a_frame_is_cut(tmp_path_factory: pytest.TempPathFactory, wire: Wire):
    # Of what is damaged or cut by chance nothing is left: every prefix of a whole frame, in one file.
    whole = wire._replace(damage=(), cut=None)
    every_cut = [whole._replace(cut=octets, after_us=1) for octets in range(141)]

    lines = compare(write_wires(tmp_path_factory.getbasetemp() / "cut.pcapng", every_cut), Settings())

    assert not lines, report(lines, what=str(whole))


TAG_AT, TAG_BYTES = 12, 4


@pytest.mark.skipif(not hasattr(FrameBlock, "of"), reason="a block cannot be made of frames")
@FUZZ
@given(sequence=st.lists(wires(links=(ETHERNET,)), min_size=1, max_size=12), how=WAYS)
def test_a_tag_beside_the_frame_is_a_tag_within_it(sequence: list[Wire], how: Settings):
    # The oracle reads each frame whole; the engine gets the outermost tag beside it, as Linux hands it over. `cut` is
    # where the frame without that tag ends.
    tagged, octets, beside, wire_bytes = [], [], [], []
    for number, wire in enumerate(sequence):
        whole, cut = frame(wire), 1 << 20 if wire.cut is None else wire.cut
        on_wire, has_tag = len(whole) + wire.absent_bytes, bool(wire.tags) and cut >= TAG_AT
        held = whole[: cut + TAG_BYTES] if has_tag else whole[:cut]
        tagged.append(Frame(START_US + number, ETHERNET, on_wire, held))
        octets.append(held[:TAG_AT] + held[TAG_AT + TAG_BYTES :] if has_tag else held)
        beside.append((int.from_bytes(whole[12:14], "big"), int.from_bytes(whole[14:16], "big")) if has_tag else (0, 0))
        wire_bytes.append(on_wire - TAG_BYTES if has_tag else on_wire)
    oracle, engine = OracleFeed(how), EngineFeed(how)

    oracle.read_frames(tagged)
    times_us = [frame.ts for frame in tagged]
    engine.add(FrameBlock.of(octets, times_us, link_type=ETHERNET, wire_bytes=wire_bytes, vlan=beside))

    expected = oracle.finish()
    lines = DIFFERENTIAL_TALLY.count(disagreements(expected, engine.finish()), expected)
    assert not lines, report(lines, what=str(how))
