"""Where the file of a service lies: ImagePath as the loader and the service manager read it."""

from __future__ import annotations

import re

from livelift.registry.tree import Key
from livelift.registry.values import number_of, text_of

KERNEL_TYPES = (1, 2, 4, 8)
"""SERVICE_KERNEL_DRIVER, FILE_SYSTEM_DRIVER, ADAPTER, RECOGNIZER_DRIVER (winnt.h)."""
WITHOUT_FILE = ("FS_REC", "SPLDR", "WOF")
"""Boot drivers without ImagePath in hives of all versions at hand. Their files have the default name, or are part of
another image."""


def is_driver(service: Key | None) -> bool:
    return service is not None and number_of(service.value("Type")) in KERNEL_TYPES


def image_path(name: str, service: Key) -> str | None:
    """The path below the system volume's root, with "/". Without ImagePath: System32\\drivers\\NAME.sys for a driver
    (CmServices: learn.microsoft.com, "HKLM\\SYSTEM\\CurrentControlSet\\Services"). None for a place that cannot be
    told: another volume, a device path, a program with no path."""
    text = text_of(service.value("ImagePath")).strip()
    if not text:
        return f"Windows/System32/drivers/{name}.sys" if is_driver(service) else None
    path = text.replace("/", "\\")
    if path.startswith('"'):
        path = path[1:].partition('"')[0]
    path = re.sub(r"^\\\?\?\\", "", path)
    path = re.sub(r"^%(systemroot|windir)%\\", r"\\SystemRoot\\", path, flags=re.I)
    if re.match(r"^\\SystemRoot\\", path, re.I):
        path = "Windows" + path[len("\\SystemRoot") :]
    elif re.match(r"^[A-Za-z]:\\", path):
        if path[0].upper() != "C":
            return None
        path = path[3:]
    elif re.match(r"^system32\\", path, re.I):
        path = "Windows\\" + path
    else:
        return None
    if not is_driver(service):
        path = re.sub(r"(\.exe)\b.*$", r"\1", path, flags=re.I)
    if "%" in path or ".." in path.split("\\"):
        return None
    return path.replace("\\", "/")
