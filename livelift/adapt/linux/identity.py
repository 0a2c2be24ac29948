"""Who the machine is: by default the source, whose place it takes. And what must not be carried to another machine."""

from __future__ import annotations

from livelift.adapt.changes import MakeLink
from livelift.adapt.linux.case import Case

LEASES = ("var/lib/dhcp/*.leases", "var/lib/dhclient/*.leases", "var/lib/NetworkManager/*.lease")


def identity(case: Case) -> None:
    """The policy says target only where the source goes on beside it: two machines with one machine-id get one DHCP
    lease and mix their journals."""
    if case.policy.hostname == "target" and case.new.has("etc/hostname"):
        case.copy("identity", "etc/hostname", "the target keeps its name (policy)")
    if case.policy.machine_id == "target":
        for path in ("etc/machine-id", "var/lib/dbus/machine-id"):
            if case.new.has(path):
                case.copy("identity", path, "the target keeps its machine-id (policy)")
            elif case.old.has(path):
                case.delete("identity", path, "the source's machine-id is not taken (policy)")
    if case.policy.ssh_host_keys == "target":
        theirs = case.new.matching("etc/ssh/ssh_host_*")
        for path in case.old.matching("etc/ssh/ssh_host_*"):
            if path not in theirs:
                case.delete("identity", path, "the target keeps its host keys (policy)")
        for path in theirs:
            case.copy("identity", path, "the target keeps its host keys (policy)")


def leftovers(case: Case) -> None:
    """Files that belong to a machine or a moment: seeds, leases, the clock, a mount table of the past."""
    seed = "var/lib/systemd/random-seed"
    if case.old.has(seed):
        case.delete("leftover", seed, "a random seed is used once, by one machine")
    for path in (path for pattern in LEASES for path in case.old.matching(pattern)):
        case.delete("leftover", path, "a lease of the source's card")
    if case.new.has("etc/adjtime"):
        case.copy("leftover", "etc/adjtime", "drift and mode of the target's hardware clock")
    item = case.old.items.get("etc/mtab")
    if item is not None and item.kind == "file":
        change = MakeLink("etc/mtab", "../proc/self/mounts")
        case.draft.edit("leftover/etc/mtab", "a mount table of the past", change, inputs=("source:etc/mtab",))
