"""fstab, swap and the tables of the storage stack: what is mounted where is the source's, the devices the target's."""

from __future__ import annotations

import re

import msgspec

from livelift.adapt.linux.case import Case
from livelift.adapt.linux.tables import crypttab_entries, fstab_line, join, read_fstab
from livelift.model.facts import FstabEntry

NETWORK = ("nfs", "nfs4", "cifs", "smb3", "ceph", "glusterfs", "fuse.sshfs", "fuse.glusterfs", "9p", "lustre", "ocfs2")
NO_DEVICE = ("proc", "sysfs", "tmpfs", "devpts", "devtmpfs", "overlay", "cgroup", "cgroup2", "debugfs", "securityfs",
             "efivarfs", "hugetlbfs", "mqueue", "none", "fuse", "configfs", "binfmt_misc")  # fmt: skip
DEVICE_OPTIONS = (
    "subvol",
    "subvolid",
    "_netdev",
    "x-systemd.requires",
    "x-systemd.device-timeout",
    "degraded",
    "device",
)
"""Options that belong to a device, not to its use."""


def fstab(case: Case) -> None:
    """In the source's order and with its comments. A line without a device of the target is never left to stop the
    boot: what was mounted on the source now lies in the file system above it, anything else gets nofail."""
    theirs = {e.file: e for e in case.target.fstab if _is_disk(e)}
    mounted = {f.mountpoint for f in case.source.file_systems}
    lines: list[str] = []
    done: set[str] = set()
    for line in read_fstab(case.old.text("etc/fstab")):
        entry = line.entry
        if entry is None or not (_is_disk(entry) or entry.vfstype == "swap"):
            lines.append(line.text)
        elif entry.vfstype == "swap":
            lines += _swap(case, entry)
        elif entry.file in theirs:
            done.add(entry.file)
            lines.append(fstab_line(_combined(entry, theirs[entry.file])))
        elif entry.file in mounted:
            lines.append(f"# livelift: now a directory of the file system above it: {line.text}")
            case.draft.note(
                "mount-joined", f"{entry.file} has no file system of its own on the target; its content lies above it"
            )
        else:
            options = tuple(dict.fromkeys([*(o for o in entry.options if o != "defaults"), "nofail"]))
            lines.append(fstab_line(msgspec.structs.replace(entry, options=options, passno=0)))
            case.draft.warn(
                "mount-without-device",
                f"{entry.spec} for {entry.file} was not mounted on the source and is not on the target: nofail",
                "attach the device to the target, or remove the line",
            )
    for mountpoint, entry in sorted(theirs.items()):
        if mountpoint not in done and (case.target.mounted(mountpoint) or entry.vfstype == "vfat"):
            lines.append(fstab_line(entry))
    lines += [fstab_line(e) for e in target_swaps(case)]
    case.write(
        "storage",
        "etc/fstab",
        join(lines),
        "devices by the target's fstab, mount points and options by the source's",
        ("source:etc/fstab", "target facts: fstab", "source facts: file_systems"),
    )
    if "/" not in {e.file for e in case.target.fstab}:
        case.draft.inhibit("fstab-root", "the target's fstab has no line for /", "add it on the target")


def _is_disk(entry: FstabEntry) -> bool:
    if entry.vfstype in (*NETWORK, *NO_DEVICE, "swap") or {"bind", "rbind"} & set(entry.options):
        return False
    return entry.spec.startswith(("/dev/", "UUID=", "LABEL=", "PARTUUID=", "PARTLABEL=", "ID="))


def _combined(source: FstabEntry, target: FstabEntry) -> FstabEntry:
    """The source's options where the file system is of one type: they are tuning and policy; else the target's."""
    if source.vfstype != target.vfstype:
        return msgspec.structs.replace(target, file=source.file)
    kept = [o for o in source.options if o.partition("=")[0] not in DEVICE_OPTIONS]
    kept += [o for o in target.options if o.partition("=")[0] in DEVICE_OPTIONS]
    return FstabEntry(
        spec=target.spec,
        file=source.file,
        vfstype=target.vfstype,
        options=tuple(dict.fromkeys(kept)) or ("defaults",),
        freq=source.freq,
        passno=target.passno,
    )


def _swap(case: Case, entry: FstabEntry) -> list[str]:
    """A partition stays behind, and a swap file is not copied (`layout.swap_files`): a line for it would be a unit that
    fails at every boot."""
    if entry.spec.startswith("/") and not entry.spec.startswith("/dev/"):
        return [f"# livelift: not copied; make it anew (mkswap) and take this line back: {fstab_line(entry)}"]
    return []


def target_swaps(case: Case) -> list[FstabEntry]:
    """Swap devices of the target. A swap file of its old system stays behind with that."""
    return [e for e in case.target.fstab if e.vfstype == "swap" and (e.spec[:5] == "/dev/" or e.spec[:1] != "/")]


def resume(case: Case) -> None:
    """A resume device that is not there delays each boot (initramfs-tools waits for it)."""
    path = "etc/initramfs-tools/conf.d/resume"
    if case.family == "debian" and (case.old.has(path) or case.new.has(path)):
        swaps = target_swaps(case)
        text = case.new.text(path) if case.new.has(path) else f"RESUME={swaps[0].spec if swaps else 'none'}\n"
        case.write("storage", path, text, "the swap device of the target", (f"target:{path}", f"source:{path}"))


def crypttab(case: Case) -> None:
    """The target's devices; a mapping of the source's own has no device there."""
    path = "etc/crypttab"
    theirs, ours = case.new.text(path), case.old.text(path)
    names = {entry.name for entry in crypttab_entries(theirs)}
    for entry in crypttab_entries(ours):
        if entry.name not in names:
            case.draft.warn(
                "crypttab-dropped",
                f"the encrypted device {entry.name} ({entry.device}) of the source is not on the target",
                "if the disk moves along, add its line again after the commit",
            )
    if theirs:
        case.write("storage", path, theirs, "the target's encrypted devices", (f"target:{path}", f"source:{path}"))
    elif crypttab_entries(ours):
        case.delete("storage", path, "the target has no encrypted devices; waiting for the source's stops the boot")
    for entry in crypttab_entries(theirs):
        key = entry.key.lstrip("/")
        if case.new.has(key):
            case.copy("storage", key, f"the key file of {entry.name}")
        elif entry.key.startswith("/") and not entry.key.startswith("/dev/"):
            case.draft.inhibit(
                "crypttab-key",
                f"the key file {entry.key} of the target's {entry.name} was not listed",
                "keep key files in /etc/keys or /etc/cryptsetup-keys.d",
            )


def mdadm(case: Case) -> None:
    """ARRAY lines name devices; MAILADDR and the like are the operator's."""
    path = "etc/mdadm/mdadm.conf" if case.family == "debian" else "etc/mdadm.conf"
    ours, theirs = case.old.text(path), case.new.text(path)
    kept = [line for line in ours.splitlines() if not re.match(r"\s*(ARRAY|DEVICE)\b", line)]
    arrays = [line for line in theirs.splitlines() if re.match(r"\s*(ARRAY|DEVICE)\b", line)]
    if ours or arrays:
        text = join([*kept, *arrays])
        case.write("storage", path, text, "the target's arrays", (f"target:{path}", f"source:{path}"))


def lvm(case: Case) -> None:
    """The devices file lets LVM see only the devices in it (lvmdevices(8)); a filter may hide the target's disks."""
    devices = "etc/lvm/devices/system.devices"
    if case.new.has(devices):
        case.copy("storage", devices, "LVM sees only the devices in it")
    elif case.old.has(devices):
        case.delete("storage", devices, "LVM would see only the source's devices")
    path = "etc/lvm/lvm.conf"
    active = r"^\s*(global_)?filter\s*="
    if re.search(active, case.old.text(path), re.M) and case.new.has(path):
        case.copy("storage", path, "the source's filter names devices that are not there")
    for backup in sorted({*case.old.matching("etc/lvm/backup/*"), *case.new.matching("etc/lvm/backup/*")}):
        if case.new.has(backup):
            case.copy("storage", backup, "vgcfgrestore would write the layout of the source's volume group to the disk")
        else:
            case.delete("storage", backup, "the volume group of the source is not there")
    for cache in ("etc/lvm/cache/.cache", "etc/blkid.tab", "etc/blkid/blkid.tab"):
        if case.old.has(cache):
            case.delete("storage", cache, "a cache of the source's devices")


def multipath(case: Case) -> None:
    for path in ("etc/multipath/wwids", "etc/multipath/bindings"):
        if case.new.has(path):
            case.copy("storage", path, "names of the target's paths")
        elif case.old.has(path):
            case.delete("storage", path, "names of the source's paths")
    if any(d.kind == "mpath" for d in case.target.root_stack()) and case.new.has("etc/multipath.conf"):
        case.copy("storage", "etc/multipath.conf", "the target's root is on multipath")


def stale_names(case: Case) -> None:
    """Configuration that names the source's devices is reported; its meaning is not guessed."""
    names = [d.path for d in case.source.devices if d.kind in ("disk", "part")]
    names += [d.uuid for d in case.source.devices if len(d.uuid) > 8]
    for path in case.old.readable(("etc/smartd.conf", "etc/hdparm.conf", "etc/sysconfig/rawdevices")):
        lines = [
            line for line in case.old.text(path).splitlines() if line.strip() and not line.lstrip().startswith("#")
        ]
        hits = sorted({name for name in names for line in lines if re.search(rf"{re.escape(name)}(?!\w)", line)})
        if hits:
            case.draft.warn(
                "stale-device", f"/{path} names {', '.join(hits)} of the source", "correct it after the commit"
            )
