"""SELinux: what the plan has written needs labels; everything else has kept its own on the way (security.selinux)."""

from __future__ import annotations

from livelift.adapt.changes import CopyFile, CopyTree, MakeLink, RunCommand, WriteFile
from livelift.adapt.linux.case import Case
from livelift.adapt.plan import Plan


def relabel(case: Case, plan: Plan) -> None:
    """Last of all rules: setfiles(8) on the paths that the plan has made. It needs no running SELinux. Where it is
    missing, /.autorelabel lets the first boot relabel all, with a second reboot."""
    security = case.source.security
    if security.selinux not in ("enforcing", "permissive"):
        return
    made = [
        edit.change.path for edit in plan.edits if isinstance(edit.change, WriteFile | CopyFile | CopyTree | MakeLink)
    ]
    for edit in plan.edits:
        if isinstance(edit.change, RunCommand):
            made += edit.change.writes
    contexts = f"etc/selinux/{security.policy}/contexts/files/file_contexts"
    tool = next((p for p in ("usr/sbin/setfiles", "sbin/setfiles") if case.old.has(p)), "")
    inputs = ("source facts: security", f"source:{contexts}")
    if tool and case.old.has(contexts):
        paths = tuple(f"/{path}" for path in sorted(set(made)))
        change = RunCommand((f"/{tool}", "-F", f"/{contexts}", *paths), tuple(path.lstrip("/") for path in paths))
        case.draft.edit("selinux/relabel", "labels of what this plan has written", change, inputs=inputs)
    else:
        case.draft.edit(
            "selinux/autorelabel",
            "setfiles or its policy is missing: the first boot relabels everything and starts again",
            WriteFile(".autorelabel", b"-F\n"),
            inputs=inputs,
        )
        case.draft.warn(
            "selinux-autorelabel",
            "the first boot relabels every file and then reboots once more",
            "install policycoreutils on the source to avoid it",
        )
