"""Where the file of a service lies."""

from __future__ import annotations

import pytest

from livelift.adapt.windows.images import image_path
from livelift.registry.tree import Key
from livelift.registry.values import set_number, set_text

STORE = "System32\\DriverStore\\FileRepository\\umbus.inf_amd64_1\\umbus.sys"


@pytest.mark.parametrize(
    ("image", "path"),
    [
        ("", "Windows/System32/drivers/drv.sys"),
        ("system32\\DRIVERS\\a.sys", "Windows/system32/DRIVERS/a.sys"),
        ("\\SystemRoot\\System32\\a.sys", "Windows/System32/a.sys"),
        ("%SystemRoot%\\system32\\a.sys", "Windows/system32/a.sys"),
        ("\\SystemRoot\\" + STORE, "Windows/" + STORE.replace("\\", "/")),
        ("\\??\\C:\\Program Files\\V\\a.sys", "Program Files/V/a.sys"),
        ("\\??\\D:\\a.sys", None),
        ("\\Device\\X\\a.sys", None),
        ("%Other%\\a.sys", None),
        ("system32\\..\\a.sys", None),
    ],
)
def test_drivers(image: str, path: str | None) -> None:
    key = Key("drv")
    set_number(key, "Type", 1)
    if image:
        set_text(key, "ImagePath", image, 2)
    assert image_path("drv", key) == path


@pytest.mark.parametrize(
    ("image", "path"),
    [
        ('"C:\\Program Files\\A b\\s.exe" -k x', "Program Files/A b/s.exe"),
        ("%SystemRoot%\\system32\\svchost.exe -k netsvcs", "Windows/system32/svchost.exe"),
        ("", None),
    ],
)
def test_services(image: str, path: str | None) -> None:
    key = Key("svc")
    set_number(key, "Type", 16)
    if image:
        set_text(key, "ImagePath", image, 2)
    assert image_path("svc", key) == path
