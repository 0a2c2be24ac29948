"""One machine as the rules see it: its hives in memory, a listing of its files, and where its current control set
is."""

from __future__ import annotations

import re

import msgspec

from livelift.adapt.windows.files import FileView
from livelift.registry.tree import Hive, Key
from livelift.registry.values import number_of, text_of

SYSTEM, SOFTWARE, DRIVERS, BCD = "SYSTEM", "SOFTWARE", "DRIVERS", "BCD"
HIVE_FILES = {
    SYSTEM: "Windows/System32/config/SYSTEM",
    SOFTWARE: "Windows/System32/config/SOFTWARE",
    DRIVERS: "Windows/System32/config/DRIVERS",
}
"""Where the hives lie below the root of the system volume. The BCD store lies elsewhere for each firmware
(`bcd.PLACES`)."""


class Version(msgspec.Struct, frozen=True):
    """From SOFTWARE\\Microsoft\\Windows NT\\CurrentVersion and SYSTEM; 0 or "" where unknown. ``build``:
    CurrentBuildNumber. ``ubr``: update build revision. ``kind``: WinNT, ServerNT or LanmanNT
    (Control\\ProductOptions\\ProductType). ``language``: LCID in hexadecimal
    (Control\\Nls\\Language\\InstallLanguage)."""

    build: int = 0
    ubr: int = 0
    edition: str = ""
    kind: str = ""
    architecture: str = ""
    language: str = ""
    system_root: str = ""


class System:
    """``hives`` by name (SYSTEM is required). ``version``: given by the caller where it knows better than the hives (a
    live machine); else read from them."""

    def __init__(self, hives: dict[str, Hive], files: FileView, version: Version | None = None) -> None:
        self.hives = hives
        self.files = files
        self.version = version or read_version(hives)

    @property
    def current(self) -> int:
        """N of ControlSet00N (Select\\Current); 0 where there is none or the set is not in the hive."""
        select = self.hives[SYSTEM].find("Select")
        number = number_of(select.value("Current"), 0) if select is not None else 0
        return number if self.hives[SYSTEM].find(set_name(number)) is not None else 0

    @property
    def control_set(self) -> str:
        return set_name(self.current)

    def control(self, path: str) -> Key | None:
        """A key below the current control set."""
        return self.hives[SYSTEM].find(f"{self.control_set}\\{path}" if path else self.control_set)

    def control_value(self, path: str, name: str) -> str:
        """The text of a value below the current control set."""
        return value_of(self.control(path), name)


def set_name(number: int) -> str:
    return f"ControlSet{number:03d}"


def value_of(key: Key | None, name: str) -> str:
    return text_of(key.value(name)) if key is not None else ""


def read_version(hives: dict[str, Hive]) -> Version:
    """What the hives tell of the installation; fields that they do not tell stay empty."""
    machine = System(hives, FileView(), Version())
    software = hives.get(SOFTWARE)
    now = software.find("Microsoft\\Windows NT\\CurrentVersion") if software is not None else None
    build = value_of(now, "CurrentBuildNumber") or value_of(now, "CurrentBuild")
    return Version(
        build=int(build) if re.fullmatch(r"[0-9]{4,6}", build) else 0,
        ubr=max(number_of(now.value("UBR"), 0), 0) if now is not None else 0,
        edition=value_of(now, "EditionID"),
        kind=machine.control_value("Control\\ProductOptions", "ProductType"),
        architecture=machine.control_value("Control\\Session Manager\\Environment", "PROCESSOR_ARCHITECTURE"),
        language=machine.control_value("Control\\Nls\\Language", "InstallLanguage"),
        system_root=value_of(now, "SystemRoot"),
    )
