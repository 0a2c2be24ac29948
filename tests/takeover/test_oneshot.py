"""Which kernel and image a machine was started by, from its command line."""

from __future__ import annotations

import pytest

from livelift.takeover.oneshot import is_of_stage
from livelift.takeover.switch import WATCHED


@pytest.mark.parametrize(
    ("line", "stage"),
    [
        ("BOOT_IMAGE=/boot/livelift-takeover.kernel root=UUID=1 ro", True),
        ("BOOT_IMAGE=(hd0,gpt2)/livelift-takeover.kernel root=UUID=1 ro livelift=back", True),
        (r"initrd=\EFI\livelift\image.img root=/dev/mapper/vg-root ro", True),
        ("BOOT_IMAGE=/boot/vmlinuz-6.1 root=UUID=1 ro", False),
        (r"initrd=\EFI\debian\initrd.img root=UUID=1 ro", False),
        ("", False),
    ],
)
def test_who_has_started_it(line: str, stage: bool) -> None:
    """A confirmed system's own menu watches its boots too, and that is no sign of the stage."""
    assert is_of_stage(f"{line} {' '.join(WATCHED)}\n") is stage
