"""What one check found, in a sentence that says what to do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum


class Outcome(str, Enum):
    """What came of a check; only `fail` keeps something from working."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    NOT_CHECKED = "not checked"


@dataclass(frozen=True, slots=True)
class Finding:
    """One row of the doctor's table."""

    check: str
    outcome: Outcome
    sentence: str

    @classmethod
    def ok(cls, check: str, sentence: str) -> Finding:
        """Nothing is wrong."""
        return cls(check, Outcome.OK, sentence)

    @classmethod
    def warn(cls, check: str, sentence: str) -> Finding:
        """It works, but somebody should know."""
        return cls(check, Outcome.WARN, sentence)

    @classmethod
    def fail(cls, check: str, sentence: object) -> Finding:
        """Something will not work; an error of ours says what to do by itself."""
        return cls(check, Outcome.FAIL, str(sentence))

    @classmethod
    def not_checked(cls, check: str, sentence: str) -> Finding:
        """It could not be looked at, or there is nothing to look at yet."""
        return cls(check, Outcome.NOT_CHECKED, sentence)


def has_failed(findings: Iterable[Finding]) -> bool:
    """Return whether something will not work."""
    return any(finding.outcome is Outcome.FAIL for finding in findings)
