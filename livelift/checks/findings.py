"""What a preflight finds: values with an id, a level, a diagnosis and a remedy."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import Any, NamedTuple

from livelift.errors import PreflightError


class Level(IntEnum):
    """Do not change the numbers: scripts compare them."""

    NOTE = 25
    WARNING = 51
    INHIBITOR = 101


class Finding(NamedTuple):
    id: str
    level: Level
    diagnosis: str
    remedy: str = ""


class Findings:
    """``ignored``: ids that the operator has decided to go on with; they stay in the report, as warnings."""

    def __init__(self, findings: Iterable[Finding], ignored: Iterable[str] = ()) -> None:
        waived = set(ignored)
        self.ignored = sorted(waived)
        self.findings = sorted(
            (
                f._replace(level=Level.WARNING, diagnosis=f"{f.diagnosis} (ignored by the operator)")
                if f.id in waived and f.level is Level.INHIBITOR
                else f
                for f in findings
            ),
            key=lambda f: -f.level,
        )

    @property
    def inhibitors(self) -> list[Finding]:
        return [f for f in self.findings if f.level is Level.INHIBITOR]

    @property
    def exit_code(self) -> int:
        return PreflightError.exit_code if self.inhibitors else 0

    def raise_inhibitors(self) -> None:
        """PreflightError with all of them."""
        found = self.inhibitors
        if found:
            raise PreflightError(
                "; ".join(f"{f.diagnosis} [{f.id}]" for f in found),
                remedy="; ".join(f.remedy for f in found if f.remedy),
            )

    def to_dict(self) -> dict[str, Any]:
        return {
            "inhibitors": len(self.inhibitors),
            "ignored": self.ignored,
            "findings": [
                {"id": f.id, "level": f.level.name.lower(), "diagnosis": f.diagnosis, "remedy": f.remedy}
                for f in self.findings
            ],
        }

    @classmethod
    def from_dict(cls, told: dict[str, Any]) -> Findings:
        """What `to_dict` made, perhaps on another machine."""
        return cls(Finding(f["id"], Level[f["level"].upper()], f["diagnosis"], f["remedy"]) for f in told["findings"])

    def to_text(self) -> str:
        lines = []
        for f in self.findings:
            lines.append(f"{f.level.name.lower()} {f.id}: {f.diagnosis}")
            if f.remedy:
                lines.append(f"  what to do: {f.remedy}")
        return "\n".join(lines) or "nothing stands in the way"
