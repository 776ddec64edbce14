"""Our records against the corrected CICFlowMeter's rows, column by column."""

from pathlib import Path

import pytest

from tests.flowfeatures.golden import GOLDEN, SQLI, column_diff
from tests.flowfeatures.meters import METERS, measure
from tests.flowfeatures.tally import GOLDEN_TALLY
from tests.oracle.meter import WTMC

pytestmark = pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"no golden files: {GOLDEN} is absent (PENSTOCK_SHARED)")
CAPTURES = sorted((GOLDEN / "pcaps").glob("*.pcap"))


@pytest.mark.parametrize("meter", METERS)
@pytest.mark.parametrize("capture", CAPTURES, ids=lambda path: path.stem)
def test_every_column_agrees_with_the_corrected_cicflowmeter(capture: Path, meter: str):
    measured = measure(capture, meter=meter, settings=WTMC)

    diff = column_diff(capture.stem, measured.records, GOLDEN / "wtmc" / f"{capture.stem}.csv")

    if meter == "engine":
        GOLDEN_TALLY.diffs[capture.stem] = diff
    assert not diff.lines, "\n".join(["column diff:", *diff.lines[:40]])


@pytest.mark.parametrize("meter", METERS)
def test_the_nine_published_flows_agree_in_every_column_but_the_older_tools_own(meter: str):
    measured = measure(SQLI / "WebattackSQLinj.pcap", meter=meter, settings=WTMC)

    diff = column_diff("sqli", measured.records, SQLI / "expected_features.csv")

    assert not diff.lines, "\n".join(["column diff:", *diff.lines[:40]])
    assert diff.rows == len(measured.records) == 9


def test_all_golden_rows_are_compared():
    rows = sum(
        column_diff(
            path.stem, measure(path, meter="engine", settings=WTMC).records, GOLDEN / "wtmc" / f"{path.stem}.csv"
        ).rows
        for path in CAPTURES
    )

    assert rows == 2066, "2,068 rows, without one of later fragments and one of an ARP frame"
