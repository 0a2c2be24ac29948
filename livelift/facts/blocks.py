"""Block devices with their stack, mounted disk file systems, swap: lsblk(8), /proc and superblocks."""

from __future__ import annotations

import json
import os
import re
import struct
from typing import Any, Final

import msgspec

from livelift.errors import CorruptError
from livelift.facts.host import Host
from livelift.facts.mountinfo import parse_mountinfo
from livelift.facts.mounts import IMAGE_FILESYSTEMS, MEMORY_FILESYSTEMS, NETWORK_FILESYSTEMS, MountTable
from livelift.model.facts import Device, FileSystem, SwapSpace

COLUMNS: Final = "NAME,KNAME,PKNAME,TYPE,SIZE,FSTYPE,UUID,LABEL,PARTUUID,PARTLABEL,PARTTYPE,MODEL,TRAN,MOUNTPOINT"
_PAIR: Final = re.compile(r'([\w:-]+)="([^"]*)"')
_HEX: Final = re.compile(r"\\x([0-9a-fA-F]{2})")

EXT_INCOMPAT: Final = {
    0x40: "extents", 0x80: "64bit", 0x200: "flex_bg", 0x400: "ea_inode", 0x2000: "metadata_csum_seed",
    0x8000: "inline_data", 0x10000: "encrypt", 0x20000: "casefold", 0x2: "filetype", 0x10: "meta_bg",
}  # fmt: skip
EXT_RO_COMPAT: Final = {
    0x2: "large_file", 0x8: "huge_file", 0x20: "dir_nlink", 0x40: "extra_isize", 0x100: "quota", 0x200: "bigalloc",
    0x400: "metadata_csum", 0x2000: "project", 0x8000: "verity", 0x10000: "orphan_file",
}  # fmt: skip
EXT_COMPAT: Final = {0x4: "has_journal", 0x8: "ext_attr", 0x1000: "orphan_file_present"}
XFS_RO_COMPAT: Final = {0x1: "finobt", 0x2: "rmapbt", 0x4: "reflink", 0x8: "inobtcnt"}
XFS_INCOMPAT: Final = {0x1: "ftype", 0x2: "spinodes", 0x8: "bigtime", 0x20: "nrext64", 0x40: "exchange"}


def devices(host: Host) -> tuple[Device, ...]:
    """By lsblk; the pairs format and its fewer columns are for util-linux before 2.33 (RHEL 7 and 8). Where udev does
    not run lsblk knows no content (no file system, no UUID): then blkid(8) looks into the devices."""
    answer = host.try_run("lsblk", "--json", "--bytes", "--list", "--output", f"{COLUMNS},PTTYPE")
    if answer is not None:
        found = parse_lsblk_json(answer)
    else:
        found = parse_lsblk_pairs(host.run("lsblk", "--pairs", "--bytes", "--output", COLUMNS))
    if found and not any(device.fstype for device in found):
        found = with_blkid(found, host.run("blkid", "--output", "export"))
    return found


def with_blkid(found: tuple[Device, ...], text: str) -> tuple[Device, ...]:
    """Blocks of KEY=value lines, one a device; a space or special character in a value has a backslash before it."""
    told: dict[str, dict[str, str]] = {}
    for block in text.split("\n\n"):
        pairs = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if "DEVNAME" in pairs:
            told[pairs["DEVNAME"]] = {key: re.sub(r"\\(.)", r"\1", value) for key, value in pairs.items()}
    result = []
    for device in found:
        pairs = told.get(device.path, {})
        result.append(
            msgspec.structs.replace(
                device,
                fstype=pairs.get("TYPE", ""),
                uuid=pairs.get("UUID", ""),
                label=pairs.get("LABEL", ""),
                partuuid=pairs.get("PARTUUID", device.partuuid),
                partlabel=pairs.get("PARTLABEL", device.partlabel),
                table=pairs.get("PTTYPE", device.table),
            )
        )
    return tuple(result)


def parse_lsblk_json(text: str) -> tuple[Device, ...]:
    """CorruptError for anything that is not lsblk's JSON, nested or as a list."""
    try:
        rows = json.loads(text)["blockdevices"]
        flat: list[dict[str, Any]] = []
        _flatten(rows, "", flat)
        return _devices(flat)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptError(f"lsblk --json: {error!r}", remedy="run lsblk --json by hand and look at it") from error


def _flatten(rows: list[dict[str, Any]], parent: str, found: list[dict[str, Any]]) -> None:
    for row in rows:
        found.append({**row, "pkname": row.get("pkname") or parent})
        _flatten(row.get("children") or [], row["kname"], found)


def parse_lsblk_pairs(text: str) -> tuple[Device, ...]:
    rows: list[dict[str, Any]] = []
    for line in text.splitlines():
        pairs = _PAIR.findall(line)
        if pairs:
            rows.append({key.lower(): _HEX.sub(lambda m: chr(int(m[1], 16)), value) for key, value in pairs})
    return _devices(rows)


def _devices(rows: list[dict[str, Any]]) -> tuple[Device, ...]:
    """One device a kernel name; a device with several parents (RAID, multipath) has one row for each."""
    merged: dict[str, dict[str, Any]] = {}
    parents: dict[str, list[str]] = {}
    for row in rows:
        name = str(row["kname"])
        merged.setdefault(name, row)
        parent = str(row.get("pkname") or "")
        if parent and parent not in parents.setdefault(name, []):
            parents[name].append(parent)
    return tuple(
        Device(
            name=name,
            path=_path(row),
            kind=str(row.get("type") or ""),
            size=int(row.get("size") or 0),
            parents=tuple(parents.get(name, ())),
            fstype=str(row.get("fstype") or ""),
            uuid=str(row.get("uuid") or ""),
            label=str(row.get("label") or ""),
            partuuid=str(row.get("partuuid") or ""),
            partlabel=str(row.get("partlabel") or ""),
            parttype=str(row.get("parttype") or "").lower(),
            table=str(row.get("pttype") or ""),
            model=str(row.get("model") or "").strip(),
            transport=str(row.get("tran") or ""),
            mountpoints=tuple(str(m) for m in [row.get("mountpoint")] if m),
        )
        for name, row in merged.items()
    )


def _path(row: dict[str, Any]) -> str:
    """Device-mapper devices are named by their map: dm-0 is another one after the next boot."""
    mapped = row.get("type") in ("lvm", "crypt", "mpath", "dm") or str(row["kname"]).startswith("dm-")
    return f"/dev/mapper/{row['name']}" if mapped else f"/dev/{row['kname']}"


def file_systems(host: Host, found: tuple[Device, ...]) -> tuple[FileSystem, ...]:
    """Mounted from a disk, visible, the widest view of each; sizes by statvfs(3), so only below a live root."""
    mounts = parse_mountinfo(host.bytes("/proc/self/mountinfo"))
    table = MountTable(mounts)
    by_path = {device.path: device.name for device in found}
    result = []
    for mount in mounts:
        foreign = MEMORY_FILESYSTEMS | NETWORK_FILESYSTEMS | IMAGE_FILESYSTEMS
        if mount.fstype in foreign or mount.fstype == b"overlay" or not table.is_visible(mount):
            continue
        if not mount.source.startswith(b"/dev/") or (mount.root != b"/" and mount.fstype != b"btrfs"):
            continue
        source = os.fsdecode(mount.source)
        real = host.real(source) or source
        name = by_path.get(source) or real.rpartition("/")[2]
        fields = _space(os.fsdecode(mount.mountpoint)) if host.live else {}
        result.append(
            FileSystem(
                mountpoint=mount.mountpoint.decode("utf-8", "backslashreplace"),
                fstype=mount.fstype.decode(),
                source=source,
                device=name,
                options=tuple(option.decode("utf-8", "backslashreplace") for option in mount.options),
                features=features(mount.fstype.decode(), host.bytes(source, 4096)),
                **fields,
            )
        )
    return tuple(result)


def _space(path: str) -> dict[str, int]:
    st = os.statvfs(path)
    return {
        "size": st.f_blocks * st.f_frsize,
        "used": (st.f_blocks - st.f_bfree) * st.f_frsize,
        "free": st.f_bavail * st.f_frsize,
        "used_inodes": st.f_files - st.f_ffree if st.f_files else 0,
        "free_inodes": st.f_favail if st.f_files else -1,
    }


def features(fstype: str, head: bytes) -> tuple[str, ...]:
    """Feature names from the first 4 KiB of a file system; empty for one that is not known.

    ext2/3/4: struct ext4_super_block at 1024, little endian; XFS: xfs_dsb at 0, big endian (version 5 masks at 0xD0).
    """
    if fstype in ("ext2", "ext3", "ext4") and head[1024 + 56 : 1024 + 58] == b"\x53\xef":
        compat, incompat, ro_compat = struct.unpack_from("<III", head, 1024 + 92)
        (inode_size,) = struct.unpack_from("<H", head, 1024 + 88)
        names = [n for masks, value in ((EXT_COMPAT, compat), (EXT_INCOMPAT, incompat), (EXT_RO_COMPAT, ro_compat))
                 for bit, n in masks.items() if value & bit]  # fmt: skip
        return tuple(sorted([*names, *(["small_inodes"] if inode_size < 256 else [])]))
    if fstype == "xfs" and head[:4] == b"XFSB":
        (version,) = struct.unpack_from(">H", head, 100)
        if version & 0xF < 5:
            (second,) = struct.unpack_from(">I", head, 200)
            return ("ftype",) if second & 0x200 else ()
        _, ro_compat, incompat = struct.unpack_from(">III", head, 208)
        return tuple(
            sorted(
                ["crc"]
                + [n for bit, n in XFS_RO_COMPAT.items() if ro_compat & bit]
                + [n for bit, n in XFS_INCOMPAT.items() if incompat & bit]
            )
        )
    return ()


def parse_swaps(text: str) -> tuple[SwapSpace, ...]:
    """/proc/swaps: Filename Type Size(KiB) Used Priority; spaces in names are octal. zram is memory, not disk."""
    found = []
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) >= 3 and not fields[0].startswith("/dev/zram"):
            found.append(SwapSpace(path=fields[0], kind=fields[1], size=int(fields[2]) << 10))
    return tuple(found)
