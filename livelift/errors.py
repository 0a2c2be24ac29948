"""Every error that Livelift raises on purpose: one tree, floor 0.

    LiveliftError                      exit 1
    ├── UsageError                     2   the command line or the configuration is wrong
    ├── PreflightError                 3   an inhibitor stands in the way (disk too small, overlapping maps, ...)
    │   └── UnfitFilesystemError       3   the capture mode that was named is not for this file system
    ├── UnfinishedError                4   finished, with listed problems (gaps that remain)
    ├── MismatchError                  5   verification found a difference
    ├── StateError                     6   refused in this state of the job
    ├── UnreachableError               7   no agent or peer answers
    ├── LockedError                    8   another process holds the job
    ├── TrustError                     9   pairing code, certificate or signature not accepted
    ├── CommandError                   1   a program of the moved system failed in the staged root
    ├── ProgramError                   1   a program or a hook of this machine failed
    ├── RetryError                    75   a passing trouble; the same call may succeed later
    ├── HiveError                      1   a registry hive, its log or a .reg text is damaged or not one
    ├── WireError                      1   the peer sent what the protocol does not allow
    │   └── VersionError               1   the two agents speak different versions
    └── StoreError                     1   trouble with Livelift's own files: stops loudly
        └── CorruptError               1   stored or received bytes fail their check

Two families are never mixed (borg taught this): trouble with a *source file* is a value (`model.problem.Problem`)
and never stops the workload or the job; trouble with *our own store* is one of these and stops the agent.

A class's docstring is its message template; ``code`` is stable and may be matched by scripts; ``remedy`` says what to
do next. Exit codes follow what operators know from rsync, restic and convert2rhel.
"""

from __future__ import annotations

from typing import ClassVar


class LiveliftError(Exception):
    """{0}"""

    code: ClassVar[str] = "failed"
    exit_code: ClassVar[int] = 1
    remedy: str = ""

    def __init__(self, *args: object, remedy: str = "") -> None:
        super().__init__(*args)
        if remedy:
            self.remedy = remedy

    def __str__(self) -> str:
        text = (type(self).__doc__ or "{0}").format(*self.args)
        return f"{text}\n  what to do: {self.remedy}" if self.remedy else text


class UsageError(LiveliftError):
    """{0}"""

    code = "usage"
    exit_code = 2


class PreflightError(LiveliftError):
    """preflight: {0}"""

    code = "inhibitor"
    exit_code = 3


class UnfitFilesystemError(PreflightError):
    """preflight: {0}"""

    code = "capture-filesystem"


class UnfinishedError(LiveliftError):
    """finished with problems: {0}"""

    code = "problems"
    exit_code = 4


class MismatchError(LiveliftError):
    """verification: {0}"""

    code = "mismatch"
    exit_code = 5


class StateError(LiveliftError):
    """refused: {0}"""

    code = "state"
    exit_code = 6


class UnreachableError(LiveliftError):
    """cannot reach {0}"""

    code = "unreachable"
    exit_code = 7


class LockedError(LiveliftError):
    """locked: {0}"""

    code = "locked"
    exit_code = 8


class TrustError(LiveliftError):
    """not trusted: {0}"""

    code = "trust"
    exit_code = 9


class RetryError(LiveliftError):
    """try again later: {0}"""

    code = "retry"
    exit_code = 75


class HiveError(LiveliftError):
    """registry hive: {0}"""

    code = "hive"
    remedy = (
        "copy the hive again together with its .LOG, .LOG1 and .LOG2 (from a snapshot, a backup or `reg save`); "
        "`livelift hive check FILE` shows what can be read"
    )


class WireError(LiveliftError):
    """protocol: {0}"""

    code = "wire"


class VersionError(WireError):
    """version: {0}"""

    code = "version"
    remedy = "install the same Livelift release on both machines"


class StoreError(LiveliftError):
    """own store: {0}"""

    code = "store"


class CorruptError(StoreError):
    """corrupt: {0}"""

    code = "corrupt"


class CommandError(LiveliftError):
    """in the staged root: {0}"""

    code = "command"


class ProgramError(LiveliftError):
    """{0}"""

    code = "program"
