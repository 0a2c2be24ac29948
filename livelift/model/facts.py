"""What is known about a whole server: one value per concern, readable as JSON, the input of checks and adaptation.

Sizes are bytes. Paths and names are text; a byte that is no UTF-8 is written as ``\\xNN``. An empty string or an empty
tuple means that the machine has no such thing; what could not be read is told in ``ServerFacts.unread``.
"""

from __future__ import annotations

import msgspec

FORMAT = 1
"""Of the JSON. A reader refuses a higher number; fields are only ever added."""


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """os-release(5). ``like``: ID_LIKE, nearest first."""

    id: str = ""
    like: tuple[str, ...] = ()
    version: str = ""
    name: str = ""
    codename: str = ""

    @property
    def family(self) -> str:
        """debian, redhat, suse, or an empty string for one that the adaptation does not know."""
        for name in (self.id, *self.like):
            if name in ("debian", "ubuntu"):
                return "debian"
            if name in ("rhel", "fedora", "centos", "rocky", "almalinux", "ol"):
                return "redhat"
            if name in ("suse", "sles", "opensuse", "sled") or name.startswith("opensuse"):
                return "suse"
        return ""

    @property
    def major(self) -> str:
        """What has to be equal on both sides: Ubuntu's releases are numbered by year and month, all others by major."""
        return self.version if self.id == "ubuntu" else self.version.partition(".")[0]


class Kernel(msgspec.Struct, frozen=True, kw_only=True):
    """``version`` as of uname -r. ``modules``: its directory has a modules.dep. Paths empty where there is no file."""

    version: str
    image: str = ""
    initrd: str = ""
    modules: bool = False


class Firmware(msgspec.Struct, frozen=True, kw_only=True):
    """``kind``: bios or uefi. ``secure_boot``: None where the firmware does not tell."""

    kind: str = "bios"
    secure_boot: bool | None = None


class BootLoader(msgspec.Struct, frozen=True, kw_only=True):
    """``kind``: grub2, grub-legacy, systemd-boot, or empty. ``bls``: entries by the Boot Loader Specification.

    ``config``: the menu's file. ``stage1``: disks whose first sector is GRUB's. ``efi``: loaders below EFI/ on the ESP.
    ``saved_default``: the default entry is the one that grubenv names (GRUB_DEFAULT=saved), needed for a one-shot boot.
    ``environment``: path of grubenv.
    """

    kind: str = ""
    bls: bool = False
    config: str = ""
    environment: str = ""
    stage1: tuple[str, ...] = ()
    efi: tuple[str, ...] = ()
    esp: str = ""
    saved_default: bool = False


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """A block device. ``kind`` as lsblk(8) says it: disk, part, lvm, crypt, mpath, raid1, loop, rom.

    ``name`` is the kernel's; ``parents`` are kernel names of what it is made of; ``path`` is what fstab would name.
    """

    name: str
    path: str
    kind: str
    size: int = 0
    parents: tuple[str, ...] = ()
    fstype: str = ""
    uuid: str = ""
    label: str = ""
    partuuid: str = ""
    partlabel: str = ""
    parttype: str = ""
    table: str = ""
    model: str = ""
    transport: str = ""
    mountpoints: tuple[str, ...] = ()


class FileSystem(msgspec.Struct, frozen=True, kw_only=True):
    """A mounted disk file system. ``free_inodes`` -1: no fixed number. ``features``: of the superblock, by name."""

    mountpoint: str
    fstype: str
    source: str
    device: str = ""
    options: tuple[str, ...] = ()
    size: int = 0
    used: int = 0
    free: int = 0
    used_inodes: int = 0
    free_inodes: int = -1
    features: tuple[str, ...] = ()


class FstabEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A line of fstab(5), unescaped."""

    spec: str
    file: str
    vfstype: str
    options: tuple[str, ...] = ("defaults",)
    freq: int = 0
    passno: int = 0


class SwapSpace(msgspec.Struct, frozen=True, kw_only=True):
    """A line of /proc/swaps. ``kind``: partition or file."""

    path: str
    kind: str
    size: int = 0


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """One device on the way from a block device or NIC up to the root of the bus: its modalias, driver and module.

    ``module`` is empty for a driver that is built into the kernel.
    """

    modalias: str = ""
    driver: str = ""
    module: str = ""


class Interface(msgspec.Struct, frozen=True, kw_only=True):
    """A network interface. ``kind``: physical, loopback, bridge, bond, vlan, virtual. ``addresses``: with the prefix;
    ``leased``: those of them that a lease or a router advertisement made (``dynamic``: there are such).

    ``mac`` is the permanent one where the driver tells it. ``links``: from the NIC to the root of its bus.
    """

    name: str
    kind: str = "physical"
    mac: str = ""
    driver: str = ""
    mtu: int = 1500
    up: bool = False
    master: str = ""
    addresses: tuple[str, ...] = ()
    dynamic: bool = False
    leased: tuple[str, ...] = ()
    links: tuple[Link, ...] = ()

    @property
    def static(self) -> tuple[str, ...]:
        return tuple(address for address in self.addresses if address not in self.leased)


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """``destination``: prefix, or default."""

    destination: str
    gateway: str = ""
    interface: str = ""
    metric: int = 0


class Security(msgspec.Struct, frozen=True, kw_only=True):
    """``selinux``: enforcing, permissive, disabled, or empty for a system without. ``policy``: SELINUXTYPE."""

    selinux: str = ""
    policy: str = ""
    apparmor: bool = False


class CloudInit(msgspec.Struct, frozen=True, kw_only=True):
    """cloud-init on this machine. ``instance``: id, ``datasource``: class name of what it found at the last boot."""

    present: bool = False
    disabled: bool = False
    instance: str = ""
    datasource: str = ""


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """A systemd service. ``state``: running, exited, failed, or empty where only the enabling links are known.
    ``wanted``: it is started at every boot, for itself or for another unit."""

    unit: str
    state: str = ""
    enabled: bool = False
    wanted: bool = False


class Clock(msgspec.Struct, frozen=True, kw_only=True):
    """``now``: ns since 1970, UTC, when the facts were taken. ``rtc_local``: hardware clock in local time (adjtime)."""

    now: int = 0
    zone: str = ""
    rtc_local: bool = False


class ServerFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Everything. ``root_links``: from the root's disks to the root of the bus. ``modules``: loaded now.

    ``network_stacks``: which of ifupdown, netplan, networkmanager, ifcfg, networkd, wicked have configuration here.
    ``hypervisor``: kvm, vmware, xen, microsoft, oracle or empty. ``unread``: what could not be read, and why.
    """

    format: int = FORMAT
    hostname: str = ""
    machine_id: str = ""
    architecture: str = ""
    glibc: str = ""
    release: Release = Release()
    running_kernel: str = ""
    command_line: str = ""
    kernels: tuple[Kernel, ...] = ()
    firmware: Firmware = Firmware()
    boot_loader: BootLoader = BootLoader()
    devices: tuple[Device, ...] = ()
    file_systems: tuple[FileSystem, ...] = ()
    fstab: tuple[FstabEntry, ...] = ()
    swaps: tuple[SwapSpace, ...] = ()
    interfaces: tuple[Interface, ...] = ()
    routes: tuple[Route, ...] = ()
    network_stacks: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    root_links: tuple[Link, ...] = ()
    security: Security = Security()
    cloud_init: CloudInit = CloudInit()
    services: tuple[Service, ...] = ()
    packages: tuple[str, ...] = ()
    listening: tuple[int, ...] = ()
    memory: int = 0
    hypervisor: str = ""
    clock: Clock = Clock()
    unread: tuple[str, ...] = ()

    def device(self, name: str) -> Device | None:
        """By kernel name or by path."""
        return next((d for d in self.devices if name in (d.name, d.path)), None)

    def mounted(self, mountpoint: str) -> FileSystem | None:
        return next((f for f in self.file_systems if f.mountpoint == mountpoint), None)

    def holder(self, path: str) -> FileSystem | None:
        """The mounted disk file system that ``path`` (absolute, no symlinks) lies on."""
        fitting = [f for f in self.file_systems if f"{path}/".startswith(f.mountpoint.rstrip("/") + "/")]
        return max(fitting, key=lambda f: len(f.mountpoint), default=None)

    def stack(self, name: str) -> tuple[Device, ...]:
        """The device and everything that it is made of, from the top down, each once."""
        found: dict[str, Device] = {}
        waiting = [name]
        while waiting:
            device = self.device(waiting.pop(0))
            if device is not None and device.name not in found:
                found[device.name] = device
                waiting.extend(device.parents)
        return tuple(found.values())

    def root_stack(self) -> tuple[Device, ...]:
        root = self.mounted("/")
        return self.stack(root.device or root.source) if root else ()
