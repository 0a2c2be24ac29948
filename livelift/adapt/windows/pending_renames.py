"""What the source would do at its next boot: renames of files, native programs."""

from __future__ import annotations

from livelift.adapt.windows.bench import Bench, Rule
from livelift.registry.values import list_of

MANAGER = "Control\\Session Manager"


def plan(bench: Bench) -> None:
    path = f"{bench.set}\\{MANAGER}"
    key = bench.control_key(MANAGER)
    for name in ("PendingFileRenameOperations", "PendingFileRenameOperations2"):
        value = key.value(name)
        if value is None:
            continue
        text = value.data.decode("utf-16-le", "replace")
        operations = text.removesuffix("\0").count("\0") // 2  # pairs: from, to; an empty "to" deletes
        bench.draft.warn(
            "pending-reboot",
            f"the source waits for a reboot: {name} has {operations} of them",
            "reboot the source before the move, so that updates and installers finish there",
        )
        reason = "renames that the source had planned would hit files of the merged tree"
        bench.remove_value(f"pending-renames/{name.lower()}", reason, path, name)
    programs = list_of(key.value("BootExecute"))
    checks = [line for line in programs if line.lower().split(" ")[0] == "autocheck"]
    if programs != checks:
        others = [line for line in programs if line not in checks]
        bench.draft.warn(
            "boot-programs-removed",
            f"programs of BootExecute besides autocheck do not run at the first boot: {'; '.join(others)}",
            "put them back afterwards if they belong to the workload",
        )
        reason = "a native program of the source may know only its disks"
        bench.set_list("pending-renames/bootexecute", reason, path, "BootExecute", checks or ["autocheck autochk *"])
    if lines := list_of(key.value("SetupExecute")):
        bench.draft.inhibit(
            "setup-execute",
            f"the source has setup programs to run at its next boot (SetupExecute): {'; '.join(lines)}",
            "reboot the source and begin again",
        )


RULE = Rule(
    id="pending-renames",
    touches=r"CSn\Control\Session Manager: PendingFileRenameOperations(2), BootExecute, SetupExecute",
    does="The source's pending renames are removed and told; of BootExecute only autocheck stays; SetupExecute "
    "refuses.",
    why="A rename planned for the source's reboot would act on the merged tree; half an update would stay half.",
    evidence="Both real 10 hives had pending renames (measured); virt-v2v refuses pnputil while a reboot is pending "
    "(read).",
    plan=plan,
)
