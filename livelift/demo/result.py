"""What one run of the demo proves, as numbers: judged, as JSON and as a table. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from livelift.demo.display import human_bytes, human_seconds


@dataclass
class Result:
    """Seconds, bytes, counts. ``differences`` are those of the demo's own judge, ``verified`` those of the agents."""

    as_root: bool
    capture_mode: str
    files: int
    bytes: int
    seconds: float
    initial_seconds: float
    fence_seconds: float
    lag_p50: float
    lag_p99: float
    commits_acknowledged: int
    commits_found: int
    commits_unheard: int
    accounts_torn: int
    differences: int
    differences_verified: int
    gaps: int
    amcheck: list[str]
    slowest_commit: float
    postgres_start_seconds: float
    operations: int
    examples: list[str] = field(default_factory=list)

    @property
    def lost(self) -> int:
        return self.commits_acknowledged - self.commits_found

    @property
    def good(self) -> bool:
        """Nothing lost, nothing different, and something was there to lose."""
        wrong = (
            self.lost, self.differences, self.differences_verified, self.gaps, self.accounts_torn, len(self.amcheck)
        )  # fmt: skip
        return not any(wrong) and self.commits_acknowledged > 0 and self.files > 0

    @property
    def throughput(self) -> float:
        """Bytes a second of the initial copy."""
        return self.bytes / self.initial_seconds if self.initial_seconds else 0.0

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "throughput": self.throughput, "good": self.good}

    def rows(self) -> list[tuple[str, str]]:
        return [
            ("files, directories, links", f"{self.files:,}"),
            ("bytes", human_bytes(self.bytes)),
            ("wall time, start to verified cut", human_seconds(self.seconds)),
            ("throughput of the initial copy", f"{human_bytes(self.throughput)}/s"),
            ("capture mode", self.capture_mode),
            ("lag p50 / p99", f"{human_seconds(self.lag_p50)} / {human_seconds(self.lag_p99)}"),
            ("length of the fence", human_seconds(self.fence_seconds)),
            ("slowest commit while it moved", human_seconds(self.slowest_commit)),
            ("PostgreSQL up on the target within", human_seconds(self.postgres_start_seconds)),
            ("commits acknowledged / found", f"{self.commits_acknowledged:,} / {self.commits_found:,}"),
            ("in flight at the cut, found", f"{self.commits_unheard:,}"),
            ("accounts torn", f"{self.accounts_torn:,}"),
            ("pg_amcheck", "clean" if not self.amcheck else f"{len(self.amcheck)} complaints"),
            ("other operations on the live tree", f"{self.operations:,}"),
            ("gaps", f"{self.gaps:,}"),
            ("differences: agents / own judge", f"{self.differences_verified:,} / {self.differences:,}"),
        ]


def percentile(samples: list[float], share: float) -> float:
    """The smallest sample that at least ``share`` of the samples do not exceed (nearest rank); 0 without samples."""
    if not samples:
        return 0.0
    ordered = sorted(samples)
    return ordered[max(0, -(-len(ordered) * round(share * 1000) // 1000) - 1)]
