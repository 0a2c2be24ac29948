"""How a Windows target becomes the source: the commands in order, each with its reason and its way back. Pure.

Nothing here runs anything: the plan is printed for review and carried out by whoever reads it. It has not been carried
out on a real machine yet; docs/internals/windows.md says step by step what that leaves open.

Two ways. **winre**: the machine boots once from a copy of its own recovery image into memory, so the volume is offline
and whole directories are renamed, journalled; the boot after that is the migrated system, and any boot in between leads
back. **registry**: where there is no recovery image: the running kernel exchanges the hives (RegReplaceKey) and the
session manager the files (pending renames). That has no journal, so its way back is weaker, and it says so.
"""

from __future__ import annotations

import ntpath
from collections.abc import Iterator
from typing import Final

import msgspec

from livelift.errors import PreflightError
from livelift.platform.windows.moves import PendingMove

ROOT: Final = ".livelift"
ENTRY: Final = "{7c1e2a52-6a0b-4d6e-9f0b-4c6956650001}"
RAMDISK: Final = "{7c1e2a52-6a0b-4d6e-9f0b-4c6956650002}"
"""Our own objects in the BCD store: with fixed names a second attempt finds those of the first."""
SCRATCH_KEY: Final = "LiveliftCheck"
HIVES: Final = ("SYSTEM", "SOFTWARE", "SAM", "SECURITY", "DEFAULT")
LOGS: Final = (".LOG", ".LOG1", ".LOG2")

TARGET_OWNED: Final = frozenset(
    name.casefold()
    for name in (
        ROOT, "$Recycle.Bin", "$WinREAgent", "Boot", "bootmgr", "BOOTNXT", "BOOTSECT.BAK", "DumpStack.log.tmp", "EFI",
        "Recovery", "System Volume Information", "hiberfil.sys", "pagefile.sys", "swapfile.sys",
    )
)  # fmt: skip
"""Top-level names of the system volume that belong to this machine: boot files, recovery, memory on disk."""


class WindowsFacts(msgspec.Struct, frozen=True):
    """What the plan depends on. ``staged``: top-level names of the source under ``C:\\.livelift\\new``; ``present``:
    those of the target now. ``winre``: directory of winre.wim, empty if there is none (reagentc /info).
    ``drivers``: directory of INFs that the recovery image needs for this machine's disk, or empty."""

    volume: str
    staged: tuple[str, ...]
    present: tuple[str, ...]
    hives: tuple[str, ...] = HIVES
    winre: str = ""
    bitlocker: bool = False
    uefi: bool = True
    drivers: str = ""
    in_use: tuple[str, ...] = ()


class Step(msgspec.Struct, frozen=True):
    """``commands`` and ``undo``: argument lists. ``phase``: where it happens (target, recovery, first boot)."""

    phase: str
    title: str
    why: str
    commands: tuple[tuple[str, ...], ...]
    undo: tuple[tuple[str, ...], ...] = ()


class Move(msgspec.Struct, frozen=True):
    """One rename on the offline volume. All of them can be done again and undone in reverse order."""

    old: str
    new: str


class TakeoverPlan(msgspec.Struct, frozen=True):
    way: str
    steps: tuple[Step, ...]
    moves: tuple[Move, ...] = ()
    pending: tuple[PendingMove, ...] = ()
    warnings: tuple[str, ...] = ()


def plan_takeover(facts: WindowsFacts, way: str = "auto") -> TakeoverPlan:
    """PreflightError: what is missing for the way that was asked for."""
    _check(facts)
    if way == "auto":
        way = "winre" if facts.winre else "registry"
    if way == "winre":
        if not facts.winre:
            raise PreflightError(
                "there is no recovery image on this machine",
                remedy="enable it (reagentc /enable), or use --way registry",
            )
        return _by_winre(facts)
    if way == "registry":
        return _by_registry(facts)
    raise PreflightError(f"there is no way {way!r}", remedy="use auto, winre or registry")


def _check(facts: WindowsFacts) -> None:
    if len(facts.volume) != 2 or facts.volume[1] != ":":
        raise PreflightError(f"{facts.volume!r} is not a drive", remedy="give it as C:")
    lower = {name.casefold() for name in facts.staged}
    if "windows" not in lower:
        raise PreflightError("the staged tree has no Windows directory", remedy="wait until the replica is complete")
    if "SYSTEM" not in facts.hives:
        raise PreflightError("there is no merged SYSTEM hive", remedy="run livelift adapt-windows first")
    for name in facts.staged:
        if name != ntpath.basename(name) or name in (".", "..") or ":" in name or not name:
            raise PreflightError(f"{name!r} is not a name", remedy="report this: the staging directory was misread")


def _paths(facts: WindowsFacts) -> tuple[str, str, str]:
    base = f"{facts.volume}\\{ROOT}"
    return base, f"{base}\\new", f"{base}\\old"


def plan_moves(facts: WindowsFacts) -> tuple[Move, ...]:
    """Each name of the target goes away before the source's takes its place. Windows last: as long as it is not
    exchanged the old system boots."""
    _, new, old = _paths(facts)
    staged = {name.casefold(): name for name in facts.staged if name.casefold() not in TARGET_OWNED}
    present = {name.casefold(): name for name in facts.present if name.casefold() not in TARGET_OWNED}
    moves = []
    for key in sorted(staged.keys() | present.keys(), key=lambda key: (key == "windows", key)):
        if key in present:
            moves.append(Move(f"{facts.volume}\\{present[key]}", f"{old}\\{present[key]}"))
        if key in staged:
            moves.append(Move(f"{new}\\{staged[key]}", f"{facts.volume}\\{staged[key]}"))
    return tuple(moves)


def undo_moves(moves: tuple[Move, ...]) -> tuple[Move, ...]:
    return tuple(Move(move.new, move.old) for move in reversed(moves))


def _validate(facts: WindowsFacts) -> Step:
    base, new, _ = _paths(facts)
    commands: list[tuple[str, ...]] = []
    for hive in facts.hives:
        copy = f"{base}\\check\\{hive}"
        commands += [
            ("cmd.exe", "/c", "copy", "/y", f"{new}\\Windows\\System32\\config\\{hive}", copy),
            ("reg.exe", "load", f"HKLM\\{SCRATCH_KEY}", copy),
            ("reg.exe", "unload", f"HKLM\\{SCRATCH_KEY}"),
        ]
    return Step(
        "target",
        "let the running kernel load every merged hive",
        "the kernel that loads it at the boot is the judge of a hive; a copy, because loading writes to the file",
        (("cmd.exe", "/c", "mkdir", f"{base}\\check"), *commands),
        (("reg.exe", "unload", f"HKLM\\{SCRATCH_KEY}"), ("cmd.exe", "/c", "rmdir", "/s", "/q", f"{base}\\check")),
    )


def _common(facts: WindowsFacts) -> Iterator[Step]:
    base, _, _ = _paths(facts)
    yield _validate(facts)
    if facts.bitlocker:
        yield Step(
            "target",
            "suspend BitLocker for two boots",
            "the recovery image and the changed boot files would ask for the recovery key",
            (("manage-bde.exe", "-protectors", "-disable", facts.volume, "-RebootCount", "2"),),
            (("manage-bde.exe", "-protectors", "-enable", facts.volume),),
        )
    yield Step(
        "target",
        "switch hibernation and fast startup off",
        "a hibernated kernel would go on with the old volume in its memory",
        (("powercfg.exe", "/hibernate", "off"),),
        (("powercfg.exe", "/hibernate", "on"),),
    )
    yield Step(
        "target",
        "keep a copy of the boot configuration",
        "everything below that changes it is undone by importing this copy",
        (("bcdedit.exe", "/export", f"{base}\\bcd.before"),),
    )


def _by_winre(facts: WindowsFacts) -> TakeoverPlan:
    base, _, old = _paths(facts)
    image, mount = f"{base}\\re\\livelift.wim", f"{base}\\re\\mount"
    dism = "dism.exe"
    prepare: list[tuple[str, ...]] = [
        ("cmd.exe", "/c", "mkdir", mount),
        ("cmd.exe", "/c", "copy", "/y", f"{facts.winre}\\winre.wim", image),
        ("cmd.exe", "/c", "copy", "/y", f"{facts.volume}\\Windows\\Boot\\DVD\\PCAT\\boot.sdi", f"{base}\\re\\boot.sdi"),
        ("cmd.exe", "/c", "mkdir", old),
        (dism, "/Mount-Image", f"/ImageFile:{image}", "/Index:1", f"/MountDir:{mount}"),
    ]
    if facts.drivers:
        prepare.append((dism, f"/Image:{mount}", "/Add-Driver", f"/Driver:{facts.drivers}", "/Recurse"))
    prepare += [
        ("cmd.exe", "/c", "copy", "/y", f"{base}\\re\\swap.cmd", f"{mount}\\Windows\\System32\\livelift.cmd"),
        ("cmd.exe", "/c", "copy", "/y", f"{base}\\re\\winpeshl.ini", f"{mount}\\Windows\\System32\\winpeshl.ini"),
        (dism, "/Unmount-Image", f"/MountDir:{mount}", "/Commit"),
    ]
    loader = "winload.efi" if facts.uefi else "winload.exe"
    ramdisk = f"ramdisk=[{facts.volume}]\\{ROOT}\\re\\livelift.wim,{RAMDISK}"
    b = "bcdedit.exe"
    boot: tuple[tuple[str, ...], ...] = (
        (b, "/create", RAMDISK, "/d", "Livelift", "/device"),
        (b, "/set", RAMDISK, "ramdisksdidevice", f"partition={facts.volume}"),
        (b, "/set", RAMDISK, "ramdisksdipath", f"\\{ROOT}\\re\\boot.sdi"),
        (b, "/create", ENTRY, "/d", "Livelift take-over", "/application", "osloader"),
        (b, "/set", ENTRY, "device", ramdisk),
        (b, "/set", ENTRY, "osdevice", ramdisk),
        (b, "/set", ENTRY, "path", f"\\Windows\\System32\\Boot\\{loader}"),
        (b, "/set", ENTRY, "systemroot", "\\Windows"),
        (b, "/set", ENTRY, "winpe", "yes"),
        (b, "/set", ENTRY, "detecthal", "yes"),
    )
    moves = plan_moves(facts)
    steps = (
        *_common(facts),
        Step(
            "target",
            "make a recovery image of our own",
            "the machine's own image stays as it is; the copy gets this machine's disk driver and starts the exchange",
            tuple(prepare),
            (
                (dism, "/Unmount-Image", f"/MountDir:{mount}", "/Discard"),
                ("cmd.exe", "/c", "rmdir", "/s", "/q", f"{base}\\re"),
            ),
        ),
        Step(
            "target",
            "add a boot entry for it",
            "an entry of its own: the default entry stays the old system, so a crash or power cut leads back to it",
            boot,
            ((b, "/delete", ENTRY, "/f"), (b, "/delete", RAMDISK, "/f")),
        ),
        Step(
            "target",
            "boot it once",
            "bootsequence is used up by one boot, whatever becomes of that boot",
            ((b, "/bootsequence", ENTRY), ("shutdown.exe", "/r", "/t", "0", "/d", "p:2:4")),
            ((b, "/deletevalue", "{bootmgr}", "bootsequence"), ("shutdown.exe", "/a")),
        ),
        Step(
            "recovery",
            f"exchange {len(moves)} top-level names",
            "renames of whole directories on one volume: each is done or not done, and a journal says which; Windows "
            "is the last, so until then the old system boots",
            tuple(("cmd.exe", "/c", "move", move.old, move.new) for move in moves),
            tuple(("cmd.exe", "/c", "move", move.old, move.new) for move in undo_moves(moves)),
        ),
        Step(
            "recovery",
            "delete the logs of the old hives beside the merged ones",
            "a log that belongs to another hive would be replayed onto the new one",
            tuple(
                ("cmd.exe", "/c", "del", "/f", "/a", f"{facts.volume}\\Windows\\System32\\config\\{hive}{log}")
                for hive in facts.hives
                for log in LOGS
            ),
        ),
        Step(
            "recovery",
            "arm the way back",
            "unless the migrated system says within its first boot that it serves, the boot after it is this image "
            "again, which renames everything back",
            ((b, "/bootsequence", "{default}", ENTRY), ("wpeutil.exe", "reboot")),
            ((b, "/deletevalue", "{bootmgr}", "bootsequence"),),
        ),
        Step(
            "first boot",
            "confirm",
            "the agent's service has started, the network answers: the way back is disarmed, the entry is taken out",
            (
                (b, "/deletevalue", "{bootmgr}", "bootsequence"),
                (b, "/delete", ENTRY, "/f"),
                (b, "/delete", RAMDISK, "/f"),
            ),
        ),
    )
    warnings = (
        f"the old system stays in {old} until it is deleted by hand",
        f"the recovery image may give the volume another letter than {facts.volume}: the script looks for its journal",
        "no step has been carried out on a real machine by the makers of this plan",
    )
    return TakeoverPlan("winre", steps, moves, (), warnings)


def _by_registry(facts: WindowsFacts) -> TakeoverPlan:
    base, new, old = _paths(facts)
    config = f"{facts.volume}\\Windows\\System32\\config"
    pending = tuple(plan_pending(facts))
    machine = [hive for hive in facts.hives if hive != "DEFAULT"]  # that one belongs to HKEY_USERS
    replace = tuple(
        (
            "livelift",
            "takeover-windows",
            "--replace-hive",
            f"\\REGISTRY\\MACHINE\\{hive}",
            f"{new}\\Windows\\System32\\config\\{hive}",
            f"{old}\\{hive}.hive",
        )
        for hive in machine
    )
    steps = (
        *_common(facts),
        Step(
            "target",
            f"write {len(pending)} pending renames into the merged SYSTEM hive",
            "the next boot reads the list from the hive that it boots with: put into today's registry it would be "
            "lost when that hive is exchanged",
            (
                (
                    "livelift",
                    "hive",
                    "merge",
                    f"{new}\\Windows\\System32\\config\\SYSTEM",
                    f"{base}\\pending.reg",
                    "-o",
                    f"{base}\\SYSTEM",
                ),
            ),
        ),
        Step(
            "target",
            "exchange the hives at the next boot",
            "RegReplaceKey checks each hive, keeps today's file and takes effect at the boot",
            replace,
            tuple(("cmd.exe", "/c", "copy", "/y", f"{old}\\{hive}.hive", f"{config}\\{hive}") for hive in machine),
        ),
        Step(
            "target",
            "restart",
            "the session manager carries out the renames before the services start",
            (("shutdown.exe", "/r", "/t", "0", "/d", "p:2:4"),),
            (("shutdown.exe", "/a"),),
        ),
    )
    warnings = (
        "the renames have no journal: a power cut between two of them leaves a mixture, which only the recovery "
        "console can set right",
        "C:\\Windows itself is in use at that boot and is not exchanged: only the files in it that are listed",
        "whether this Windows lets HKLM\\SYSTEM be replaced is known when it has been tried on it",
    )
    return TakeoverPlan("registry", steps, (), pending, warnings)


def plan_pending(facts: WindowsFacts) -> Iterator[PendingMove]:
    """Files in use, given as paths below the volume: today's is kept, the source's takes its place."""
    _, new, old = _paths(facts)
    for path in facts.in_use:
        inside = path.lstrip("\\")
        yield PendingMove(f"{facts.volume}\\{inside}", f"{old}\\{inside}", True)
        yield PendingMove(f"{new}\\{inside}", f"{facts.volume}\\{inside}", True)
