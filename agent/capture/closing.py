"""What a person hears of a live capture: warnings as soon as they are known, and at the end what came of it."""

from __future__ import annotations

from agent.capture.accounting import Accounting
from agent.capture.report import CaptureReport
from contracts.errors import PenstockError
from contracts.terminal import complain


class Warnings:
    """Say what speaks against a capture, each thing once."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def say(self, report: CaptureReport) -> None:
        """Say the warnings of a report that have not been said."""
        for warning in report.warnings():
            if warning not in self._said:
                self._said.add(warning)
                complain(warning)

    def close(self, report: CaptureReport, accounting: Accounting) -> int:
        """Say what was seen and what is wrong with it; return the exit code: a mistake of ours where sums differ."""
        complain(f"{report.interface}: {report.seen:,} packets seen, {report.read:,} read, {report.dropped:,} dropped")
        self.say(report)
        return self.even(accounting)

    def even(self, accounting: Accounting) -> int:
        """Say which sums do not come out even; return the exit code."""
        uneven = accounting.check()
        for sum_ in uneven:
            complain(f"the accounts do not come out even, please report it: {sum_}")
        return PenstockError.exit_code if uneven else 0
