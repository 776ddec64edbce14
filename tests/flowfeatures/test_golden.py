"""Our records against the corrected CICFlowMeter's rows, column by column."""

from pathlib import Path

import pytest

from tests.flowfeatures.golden import GOLDEN, SQLI, column_diff
from tests.flowfeatures.meters import METERS, measure
from tests.oracle.meter import WTMC

pytestmark = pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"no golden files: {GOLDEN} is absent (PENSTOCK_SHARED)")
CAPTURES = sorted((GOLDEN / "pcaps").glob("*.pcap"))


@pytest.mark.parametrize("meter", METERS)
@pytest.mark.parametrize("capture", CAPTURES, ids=lambda path: path.stem)
def test_every_column_agrees_with_the_corrected_cicflowmeter(capture: Path, meter: str):
    measured = measure(capture, meter=meter, settings=WTMC)

    diff, _ = column_diff(capture.stem, measured.records, GOLDEN / "wtmc" / f"{capture.stem}.csv")

    assert not diff, "\n".join(["column diff:", *diff[:40]])


@pytest.mark.parametrize("meter", METERS)
def test_the_nine_published_flows_agree_in_every_column_but_the_older_tools_own(meter: str):
    measured = measure(SQLI / "WebattackSQLinj.pcap", meter=meter, settings=WTMC)

    diff, compared = column_diff("sqli", measured.records, SQLI / "expected_features.csv")

    assert not diff, "\n".join(["column diff:", *diff[:40]])
    assert compared == len(measured.records) == 9


def test_all_golden_rows_are_compared():
    compared = sum(
        column_diff(
            path.stem, measure(path, meter="oracle", settings=WTMC).records, GOLDEN / "wtmc" / f"{path.stem}.csv"
        )[1]
        for path in CAPTURES
    )

    assert compared == 2066, "2,068 rows, without one of later fragments and one of an ARP frame"
