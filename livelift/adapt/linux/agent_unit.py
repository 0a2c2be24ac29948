"""The unit that runs the target's agent, in the old system and in the new one: so it is there after every reboot."""

from __future__ import annotations

from typing import Final

import msgspec

from livelift.adapt.changes import MakeLink, WriteFile
from livelift.adapt.plan import Edit, Plan
from livelift.checks.findings import Finding, Level

NAME: Final = "livelift-target.service"
PATH: Final = f"etc/systemd/system/{NAME}"
LINK: Final = f"etc/systemd/system/multi-user.target.wants/{NAME}"


def exec_lines(words: tuple[str, ...]) -> list[str]:
    """How a unit runs the agent file. ``words``: the file and its arguments. By the shell, for a policy (SELinux) may
    not let systemd execute what lies outside of the usual directories. It unpacks beside itself: what goes with the
    job is in one place."""
    cache = f"{words[0].rpartition('/')[0]}/cache"
    return [
        f"Environment={_quoted(f'LIVELIFT_CACHE={cache}')}",
        f"ExecStart=/bin/sh {' '.join(map(_quoted, words))}",
    ]


def render(words: tuple[str, ...]) -> str:
    """``words``: the agent file and its arguments; those with spaces are quoted (systemd.syntax(7))."""
    lines = [
        "# Written by livelift: this server's move. It goes with the commit, or with livelift remove.",
        "[Unit]",
        "Description=Livelift target agent",
        "After=network.target",
        "",
        "[Service]",
        *exec_lines(words),
        "Restart=on-failure",
        "RestartSec=2",
        "LimitNOFILE=65536",
        "",
        "[Install]",
        "WantedBy=multi-user.target",
    ]
    return "\n".join(lines) + "\n"


def _quoted(word: str) -> str:
    """% begins a specifier and $ a variable; both are doubled."""
    text = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{text}"' if any(c in text for c in " \t\"'\\;") else text


def with_agent(plan: Plan, unit: bytes | None) -> Plan:
    """The plan with the agent's unit in the new system. ``unit``: as it is on the target now; None: there is none."""
    if unit is None:
        finding = Finding(
            "agent-unit",
            Level.WARNING,
            f"the target has no {NAME}: after the take-over nobody tells the source that the new system stands",
            "start the target agent by livelift migrate, or by livelift target --server --install",
        )
        return msgspec.structs.replace(plan, findings=(*plan.findings, finding))
    why = "the agent tells the source that the new system stands, and can lead back to the old one"
    edits = (
        Edit("agent/unit", why, WriteFile(PATH, unit, 0o644), inputs=(f"target:{PATH}",)),
        Edit("agent/enabled", why, MakeLink(LINK, f"/{PATH}"), inputs=(f"target:{PATH}",)),
    )
    return msgspec.structs.replace(plan, edits=(*edits, *plan.edits))
