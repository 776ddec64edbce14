"""What the golden and the differential suite have compared in this run, for the lines pytest ends with.

A count is taken where the comparison is made, so that no line can say more than was done.
"""

from dataclasses import dataclass, field

from tests.flowfeatures.golden import FORK_HEADERS, ColumnDiff
from tests.flowfeatures.meters import Measured
from tests.oracle.columns import NAMES


@dataclass
class GoldenTally:
    """The corrected CICFlowMeter's rows beside the engine's, by capture: one that is read again counts once."""

    diffs: dict[str, ColumnDiff] = field(default_factory=dict)

    def line(self) -> str:
        """Return what was compared and what came of it."""
        diffs = self.diffs.values()
        rows, equal, excused = (sum(getattr(diff, name) for diff in diffs) for name in ("rows", "equal", "excused"))
        different = sum(len(diff.lines) for diff in diffs)
        return (
            f"golden: {rows:,} rows x {len(FORK_HEADERS)} columns against the corrected CICFlowMeter: "
            f"{different:,} values differ, {equal:,} are equal, {excused:,} differ on purpose and are left out"
        )


@dataclass
class DifferentialTally:
    """Captures, and streams made up here, that both meters have read under one or more settings."""

    captures: set[str] = field(default_factory=set)
    streams: int = 0
    records: int = 0
    emergencies: int = 0
    disagreeing: int = 0

    def count(self, lines: list[str], oracle: Measured, *, capture: str | None = None) -> list[str]:
        """Enter one reading by both meters, of a capture or of a stream without a name; return its differences."""
        if capture is None:
            self.streams += 1
        else:
            self.captures.add(capture)
        self.records += len(oracle.records)
        self.emergencies += oracle.counters["emergencies"]
        self.disagreeing += bool(lines)
        return lines

    def line(self) -> str:
        """Return what was compared and what came of it."""
        verdict = f"{self.disagreeing:,} readings differ" if self.disagreeing else "engine = oracle"
        return (
            f"differential: {len(self.captures):,} captures, {self.streams:,} made-up streams, "
            f"{self.emergencies:,} emergencies, {self.records:,} records x {len(NAMES)} columns: {verdict}"
        )


GOLDEN_TALLY = GoldenTally()
DIFFERENTIAL_TALLY = DifferentialTally()
