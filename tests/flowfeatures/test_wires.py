"""The engine equals the oracle on every kind of frame: link types, tags, header chains, lengths that lie, cuts."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.flowfeatures.difference import report
from tests.flowfeatures.differential import compare
from tests.flowfeatures.wires import Wire, wires, write_wires
from tests.oracle.meter import Settings

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
