"""Settings that are right on the source and may stop the target: disks offline, paging files, installation policies,
clock."""

from __future__ import annotations

import re

from livelift.adapt.windows.bench import Bench, Rule
from livelift.adapt.windows.mounted_devices import LETTER
from livelift.adapt.windows.system import SOFTWARE, SYSTEM
from livelift.registry.tree import Key
from livelift.registry.values import list_of, number_of

SAN = "Services\\partmgr\\Parameters"
ONLINE_ALL = 1
"""VDS_SAN_POLICY: VDS_SP_ONLINE (learn.microsoft.com)."""
RESTRICTIONS = "Policies\\Microsoft\\Windows\\DeviceInstall\\Restrictions"


def plan(bench: Bench) -> None:
    if bench.control("Services\\partmgr") is not None:
        bench.set_number(
            "policies/san-policy",
            "every disk comes online: Windows keeps disks offline whose bus changed",
            f"{bench.set}\\{SAN}",
            "SanPolicy",
            ONLINE_ALL,
        )
    _paging(bench)
    software = bench.source.hives.get(SOFTWARE)
    restrictions = software.find(RESTRICTIONS) if software is not None else None
    active = [value.name for value in restrictions.values if number_of(value) == 1] if restrictions is not None else []
    if active:
        bench.draft.warn(
            "device-install-restricted",
            f"a group policy of the source restricts device installation ({', '.join(active)}): new storage drivers "
            "may be blocked (0x7B)",
            "lift the policy before the move, restore it when the target runs (Microsoft KB 2773300)",
        )
    ours, theirs = (
        number_of((machine.control("Control\\TimeZoneInformation") or Key("")).value("RealTimeIsUniversal"), 0)
        for machine in (bench.source, bench.target)
    )
    if ours != theirs:
        bench.draft.warn(
            "clock-differs",
            f"the source reads the firmware's clock as {_clock(ours)}, the target as {_clock(theirs)}",
            "set the target's firmware clock accordingly before the first boot",
        )


def _clock(universal: int) -> str:
    return "UTC" if universal else "local time"


def _paging(bench: Bench) -> None:
    key = bench.control("Control\\Session Manager\\Memory Management")
    mounted = bench.merged[SYSTEM].find("MountedDevices")
    known = {m[1].upper() for v in (mounted.values if mounted is not None else ()) if (m := LETTER.fullmatch(v.name))}
    for line in list_of(key.value("PagingFiles")) if key is not None else []:
        letter = re.match(r"(?:\\\?\?\\)?([A-Za-z]):", line)
        if letter is not None and letter[1].upper() not in known:
            bench.draft.warn(
                "paging-file",
                f"the source has a paging file on {letter[1].upper()}:, which no volume of the target has ({line})",
                "Windows makes a temporary one; set it anew after the first boot",
            )


RULE = Rule(
    id="policies",
    touches=r"CSn\Services\partmgr\Parameters: SanPolicy; checks of PagingFiles, DeviceInstall\Restrictions, "
    "RealTimeIsUniversal",
    does="All disks online; the rest is checked and told, the source's values stay.",
    why="2022 keeps disks offline whose bus changed; a policy against new devices ends in 0x7B; a wrong clock breaks "
    "Kerberos.",
    evidence="virt-v2v RHEL-55837 and its warnings, Microsoft KB 2773300 (read).",
    plan=plan,
)
