"""The order in which modules are loaded; the machine itself is tried by the tests that use it."""

from __future__ import annotations

from tests.kernels import order

DEPENDENCIES = """\
kernel/fs/9p/9p.ko: kernel/net/9p/9pnet.ko kernel/fs/netfs/netfs.ko
kernel/net/9p/9pnet.ko:
kernel/fs/netfs/netfs.ko.xz:
kernel/fs/netfs/netfs.ko:
kernel/net/9p/9pnet_virtio.ko: kernel/net/9p/9pnet.ko kernel/drivers/virtio/virtio.ko
kernel/drivers/virtio/virtio.ko:
kernel/lib/crc32c-intel.ko:
"""


def test_each_behind_what_it_needs():
    found = [file.split("/")[-1] for file in order(DEPENDENCIES, ["9pnet_virtio", "9p", "crc32c_intel", "not_there"])]
    assert found == ["9pnet.ko", "virtio.ko", "9pnet_virtio.ko", "netfs.ko", "9p.ko", "crc32c-intel.ko"]
