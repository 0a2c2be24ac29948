"""A Windows tree on disk (a mounted NTFS volume or a plain copy) as the machine that the adaptation rules look at.

Names are found without regard to case, whatever the file system does. Nothing is changed here.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from blake3 import blake3

from livelift.adapt.windows.driver_files import STORE
from livelift.adapt.windows.files import FileFact, FileView
from livelift.adapt.windows.images import image_path, is_driver
from livelift.adapt.windows.inf_files import CATALOGUES
from livelift.adapt.windows.oem_numbers import INF
from livelift.adapt.windows.policies import RESTRICTIONS
from livelift.adapt.windows.system import BCD, HIVE_FILES, SOFTWARE, System
from livelift.adapt.windows.versions import file_version
from livelift.edits.windows_copy import link_data
from livelift.errors import UsageError
from livelift.registry.reader import read_hive
from livelift.registry.tree import Hive, Key, fold

DRIVERS = "Windows/System32/drivers"
CONFIG = "Windows/System32/config"
DRIVER_STORE = STORE.rpartition("/")[0]
LOGS = (".LOG1", ".LOG2", ".LOG")
LOOKED_AT = ("Microsoft\\Windows NT\\CurrentVersion", RESTRICTIONS)
"""What the rules read of SOFTWARE, which may have a million values: the rest does not stay in memory."""
LOADERS = ("Windows/system32/winload.efi", "Windows/system32/winload.exe")


class WindowsTree:
    """``root``: the top of the system volume, the directory that holds Windows."""

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(root)
        self._names: dict[str, dict[str, str]] = {}
        if self.find("Windows/System32/config/SYSTEM") is None:
            raise UsageError(
                f"{root} holds no Windows/System32/config/SYSTEM",
                remedy="name the root of a mounted Windows volume, or of a copy of one",
            )

    def spell(self, path: str) -> str:
        """The path with every part that exists spelled as on the disk. UsageError: a symbolic link or junction on the
        way (what is meant lies elsewhere), or two names that differ in case only."""
        done: list[str] = []
        for part in path.split("/"):
            found = self._directory("/".join(done)).get(fold(part))
            done.append(part if found is None else found)
        return "/".join(done)

    def find(self, path: str) -> str | None:
        """The spelled path of a file that exists."""
        spelled = self.spell(path)
        parent, _, name = spelled.rpartition("/")
        return spelled if fold(name) in self._directory(parent) else None

    def full(self, path: str) -> str:
        return os.path.join(self.root, path) if path else self.root

    def read(self, path: str) -> bytes:
        try:
            with open(self.full(path), "rb") as file:
                return file.read()
        except OSError as error:
            raise UsageError(f"{self.full(path)}: {error.strerror}", remedy="run it as root") from error

    def _directory(self, path: str) -> dict[str, str]:
        found = self._names.get(path)
        if found is None:
            found = self._names[path] = {}
            full = self.full(path)
            try:
                if path and stat.S_ISLNK(os.lstat(full).st_mode):
                    raise UsageError(f"{full} is a symbolic link or a junction", remedy="name the tree it leads to")
                names = os.listdir(full)
            except (FileNotFoundError, NotADirectoryError):
                return found
            except OSError as error:
                raise UsageError(f"{full}: {error.strerror}", remedy="run it as root") from error
            for name in names:
                if fold(name) in found:
                    raise UsageError(
                        f"{full} holds {name} and {found[fold(name)]}: Windows takes them for one file",
                        remedy="remove the one that is not Windows' own",
                    )
                found[fold(name)] = name
        return found

    # -- facts -------------------------------------------------------------------------------------------------------

    def hive(self, path: str) -> Hive | None:
        """With the logs beside it replayed as far as it needs them."""
        found = self.find(path)
        if found is None:
            return None
        logs = {
            log: data for suffix in LOGS if (log := self.find(found + suffix)) is not None and (data := self.read(log))
        }
        hive = read_hive(self.read(found), list(logs.values()))
        twins = [name for name in logs if name.upper().endswith((".LOG1", ".LOG2"))]
        if hive.recovered and len(twins) == 1:
            hive.notes.append(
                f"of its two logs only {twins[0]} is there; if the other was left behind, changes are missing"
            )
        return hive

    def hives(self, boot_store: Hive | None = None) -> dict[str, Hive]:
        found = {name: hive for name, path in HIVE_FILES.items() if (hive := self.hive(path)) is not None}
        if SOFTWARE in found:
            found[SOFTWARE] = only(found[SOFTWARE], LOOKED_AT)
        if boot_store is not None:
            found[BCD] = boot_store
        return found

    def machine(self, hives: dict[str, Hive] | None = None, single: frozenset[str] = frozenset()) -> System:
        """``single``: files to look for besides those that this machine's own drivers name (`driver_images`)."""
        hives = self.hives() if hives is None else hives
        bare = System(hives, FileView())
        return System(hives, self._listing(single | driver_images(hives)), bare.version)

    def _listing(self, single: frozenset[str]) -> FileView:
        """The directories that the rules look into, and the files that services name elsewhere."""
        files: dict[str, FileFact] = {}
        complete = []
        for top, deep, read in (
            (INF, False, True), (DRIVERS, True, True), (DRIVER_STORE, True, False), (CATALOGUES, False, True),
            (CONFIG, False, False),
        ):  # fmt: skip
            spelled = self.find(top)
            if spelled is not None:
                complete.append(top)
                files.update({fold(path): self._fact(path, read) for path in self._files(spelled, deep)})
        for path in {*single, *LOADERS, "hiberfil.sys"}:
            if fold(path) in files:
                continue
            complete.append(path)
            found = self.find(path)
            if found is not None:
                files[fold(found)] = self._fact(found, path in single)
        return FileView(files.values(), complete)

    def _files(self, top: str, deep: bool) -> Iterator[str]:
        waiting = [top]
        while waiting:
            here = waiting.pop()
            for name in sorted(self._directory(here).values()):
                path = f"{here}/{name}"
                mode = os.lstat(self.full(path)).st_mode
                if stat.S_ISLNK(mode) and link_data(os.fsencode(self.full(path))) is None:
                    raise UsageError(
                        f"{self.full(path)} is a link of Linux, or compressed by the system (WOF), which the mount"
                        " cannot read",
                        remedy="uncompress it on its machine (compact /u /exe), or mount with ntfs-3g's plugin for it",
                    )
                if stat.S_ISDIR(mode) and deep:
                    waiting.append(path)
                elif stat.S_ISREG(mode) or stat.S_ISLNK(mode):
                    yield path

    def _fact(self, path: str, read: bool) -> FileFact:
        st = os.lstat(self.full(path))
        if stat.S_ISLNK(st.st_mode):
            said = link_data(os.fsencode(self.full(path)))
            return FileFact(path, 0, blake3(said).hexdigest() if said else "")
        size = st.st_size
        if not read:
            return FileFact(path, size)
        data = self.read(path)
        driver = path.lower().endswith((".sys", ".dll"))
        return FileFact(path, size, blake3(data).hexdigest(), file_version(data) if driver else "")


def driver_images(hives: dict[str, Hive]) -> frozenset[str]:
    """Where the drivers of a machine have their files."""
    services = System(hives, FileView()).control("Services") or Key("")
    paths = (image_path(service.name, service) for service in services if is_driver(service))
    return frozenset(path for path in paths if path is not None)


def only(hive: Hive, paths: tuple[str, ...]) -> Hive:
    """A hive with these keys and their values, without the keys below them."""
    small = Hive(Key(hive.root.name), hive.minor, hive.file_name, hive.timestamp)
    small.dirty = hive.dirty
    for path in paths:
        found = hive.find(path)
        if found is not None:
            key = small.root.make(path)
            for value in found.values:
                key.set(value.name, value.type, value.data)
    return small
