"""Distribution, kernels, firmware, security, services, clock: mostly one small file each, parsed."""

from __future__ import annotations

import re
import time
from typing import Final

from livelift.facts.host import Host
from livelift.model.facts import Clock, CloudInit, Firmware, Kernel, Release, Security, Service

SECURE_BOOT: Final = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
MACHINES: Final = {3: "i686", 20: "ppc", 21: "ppc64", 22: "s390x", 40: "armv7l", 62: "x86_64", 183: "aarch64"} | {
    243: "riscv64",
    258: "loongarch64",
}
"""e_machine of ELF (elf.h) to the name that uname -m gives."""
LIBC: Final = ("/lib/*-linux-gnu*/libc.so.6", "/lib64/libc.so.6", "/lib/libc.so.6", "/usr/lib64/libc.so.6")
GUEST_AGENTS: Final = {
    "qemu-guest-agent": ("/usr/sbin/qemu-ga", "/usr/bin/qemu-ga"),
    "open-vm-tools": ("/usr/bin/vmtoolsd", "/usr/sbin/vmtoolsd"),
    "vmware-tools": ("/etc/vmware-tools/services.sh", "/usr/lib/vmware-tools/sbin64/vmtoolsd"),
    "virtualbox-guest": ("/usr/sbin/VBoxService", "/usr/bin/VBoxService", "/opt/VBoxGuestAdditions*/sbin/VBoxService"),
    "xe-guest-utilities": ("/usr/sbin/xe-daemon", "/usr/sbin/xe-linux-distribution"),
    "hyperv-daemons": ("/usr/sbin/hv_kvp_daemon", "/usr/sbin/hypervkvpd"),
    "walinuxagent": ("/usr/sbin/waagent", "/usr/bin/waagent"),
    "google-guest-agent": ("/usr/bin/google_guest_agent",),
    "amazon-ssm-agent": ("/usr/bin/amazon-ssm-agent",),
    "parallels-tools": ("/usr/bin/prltoolsd",),
}
"""Programs of hypervisors and clouds inside of a guest, by one of their files."""
TOOLS: Final = {
    "grub-pc": ("/usr/lib/grub/i386-pc/modinfo.sh",),
    "grub-efi-amd64": ("/usr/lib/grub/x86_64-efi/modinfo.sh",),
    "grub-efi-arm64": ("/usr/lib/grub/arm64-efi/modinfo.sh",),
    "shim": ("/usr/lib/shim/shimx64.efi*", "/boot/efi/EFI/*/shimx64.efi"),
    "initramfs-tools": ("/usr/sbin/update-initramfs",),
    "dracut": ("/usr/bin/dracut", "/sbin/dracut"),
    "mkinitrd": ("/sbin/mkinitrd",),
    "grubby": ("/usr/sbin/grubby", "/sbin/grubby"),
    "lvm2": ("/sbin/lvm", "/usr/sbin/lvm"),
    "mdadm": ("/sbin/mdadm", "/usr/sbin/mdadm"),
    "cryptsetup": ("/sbin/cryptsetup", "/usr/sbin/cryptsetup"),
    "multipath-tools": ("/sbin/multipathd", "/usr/sbin/multipathd"),
    "dkms": ("/usr/sbin/dkms", "/usr/bin/dkms"),
    "sdbootutil": ("/usr/bin/sdbootutil",),
}


def parse_release(text: str) -> Release:
    """os-release(5): shell assignments without expansion."""
    found = shell_values(text)
    return Release(
        id=found.get("ID", "").lower(),
        like=tuple(found.get("ID_LIKE", "").lower().split()),
        version=found.get("VERSION_ID", ""),
        name=found.get("PRETTY_NAME", ""),
        codename=found.get("VERSION_CODENAME", ""),
    )


def shell_values(text: str) -> dict[str, str]:
    """KEY=value, KEY="value", KEY='value' lines; the last one of a key counts."""
    found = {}
    for line in text.splitlines():
        key, separator, value = line.strip().partition("=")
        if separator and re.fullmatch(r"\w+", key):
            value = value.strip()
            if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
                value = re.sub(r"\\([\"$`\\])", r"\1", value[1:-1]) if value[0] == '"' else value[1:-1]
            found[key] = value
    return found


def release(host: Host) -> Release:
    text = host.text("/etc/os-release") or host.text("/usr/lib/os-release")
    if text:
        return parse_release(text)
    old = host.line("/etc/redhat-release") or host.line("/etc/centos-release")  # before systemd: release 6 and older
    if match := re.match(r"(.*?) (?:Linux )?release ([\d.]+)", old):
        name = "centos" if "CentOS" in old else "rhel"
        return Release(id=name, like=("rhel", "fedora"), version=match[2], name=old)
    return Release()


def kernels(host: Host) -> tuple[Kernel, ...]:
    """All that have an image in /boot or a directory of modules; the newest of a version's files wins nothing: names
    are fixed by the distribution (vmlinuz-V; initrd.img-V, initramfs-V.img, initrd-V)."""
    images = {path.removeprefix("/boot/vmlinuz-"): path for path in host.glob("/boot/vmlinuz-*")}
    modular = {path.split("/")[-2] for path in host.glob("/lib/modules/*/modules.dep")}
    found = []
    for version in sorted({*images, *modular}):
        names = (f"/boot/initrd.img-{version}", f"/boot/initramfs-{version}.img", f"/boot/initrd-{version}")
        initrd = next((name for name in names if host.exists(name)), "")
        found.append(Kernel(version=version, image=images.get(version, ""), initrd=initrd, modules=version in modular))
    return tuple(found)


def firmware(host: Host) -> Firmware:
    """The variable's first four bytes are its attributes, then one byte: 1 = on (UEFI specification, 3.3)."""
    if not host.is_dir("/sys/firmware/efi"):
        return Firmware(kind="bios", secure_boot=False)
    raw = host.bytes(SECURE_BOOT)
    return Firmware(kind="uefi", secure_boot=raw[4] == 1 if len(raw) >= 5 else None)


def libc(host: Host) -> tuple[str, str]:
    """(architecture, version of glibc) of the system in the root, read from the library itself."""
    for pattern in LIBC:
        for path in host.glob(pattern):
            raw = host.bytes(path)
            if raw[:4] != b"\x7fELF":
                continue
            order = "little" if raw[5] == 1 else "big"
            machine = MACHINES.get(int.from_bytes(raw[18:20], order), "")  # type: ignore[arg-type]
            if machine == "ppc64" and order == "little":
                machine = "ppc64le"
            match = re.search(rb"GNU C Library [^\n\0]*?release version (\d+(?:\.\d+)+)", raw)
            return machine, match[1].decode() if match else ""
    return "", ""


def security(host: Host) -> Security:
    """What is in force; in a root that does not run, what the configuration says."""
    config = shell_values(host.text("/etc/selinux/config"))
    wanted = config.get("SELINUX", "").lower()
    enforce = host.line("/sys/fs/selinux/enforce")
    if enforce:
        wanted = "enforcing" if enforce == "1" else "permissive"
    elif wanted and host.live:
        wanted = "disabled"
    apparmor = host.line("/sys/module/apparmor/parameters/enabled") == "Y"
    return Security(selinux=wanted, policy=config.get("SELINUXTYPE", "") if wanted else "", apparmor=apparmor)


def cloud_init(host: Host) -> CloudInit:
    if not (host.is_dir("/etc/cloud") and (host.exists("/usr/bin/cloud-init") or host.is_dir("/var/lib/cloud"))):
        return CloudInit()
    disabled = host.exists("/etc/cloud/cloud-init.disabled") or "cloud-init=disabled" in host.line("/proc/cmdline")
    return CloudInit(
        present=True,
        disabled=disabled,
        instance=host.line("/var/lib/cloud/data/instance-id"),
        datasource=host.line("/var/lib/cloud/instance/datasource").partition(":")[0],
    )


def services(host: Host) -> tuple[Service, ...]:
    """systemd's list of units where it runs, and the enabling links of the file system in any case."""
    enabled = {path.rsplit("/", 1)[1] for path in host.glob("/etc/systemd/system/*.wants/*.service")}
    states: dict[str, str] = {}
    wanted: set[str] = set()
    if host.is_dir("/run/systemd/system"):
        wanted = set(host.run("systemctl", "list-dependencies", "--all", "--plain", "--no-pager").split())
        states = parse_units(
            host.run("systemctl", "list-units", "--type=service", "--all", "--plain", "--no-legend", "--no-pager")
        )
    return tuple(
        Service(unit=unit, state=states.get(unit, ""), enabled=unit in enabled, wanted=unit in wanted)
        for unit in sorted({*states, *enabled})
    )


def parse_units(text: str) -> dict[str, str]:
    """UNIT LOAD ACTIVE SUB DESCRIPTION; inactive ones are left out. A failed one may have a bullet before its name."""
    found = {}
    for line in text.splitlines():
        fields = line.lstrip(" *●").split()
        if len(fields) >= 4 and fields[0].endswith(".service") and fields[2] != "inactive":
            found[fields[0]] = fields[3]
    return found


def clock(host: Host) -> Clock:
    """``now`` only of a running machine. The third line of adjtime(5) says UTC or LOCAL."""
    adjtime = host.text("/etc/adjtime").splitlines()
    zone = host.line("/etc/timezone")
    if not zone and (real := host.real("/etc/localtime")) and "/zoneinfo/" in real:
        zone = real.partition("/zoneinfo/")[2]
    local = len(adjtime) >= 3 and adjtime[2].strip() == "LOCAL"
    return Clock(now=time.time_ns() if host.live else 0, zone=zone, rtc_local=local)


def hypervisor(host: Host) -> str:
    """By what the firmware calls itself (SMBIOS), as systemd-detect-virt(1) does."""
    told = " ".join(host.line(f"/sys/class/dmi/id/{name}") for name in ("sys_vendor", "product_name", "bios_vendor"))
    marks = (
        ("VMware", "vmware"), ("innotek", "oracle"), ("VirtualBox", "oracle"), ("Xen", "xen"), ("KVM", "kvm"),
        ("QEMU", "kvm"), ("Amazon EC2", "kvm"), ("Google", "kvm"), ("OpenStack", "kvm"), ("Parallels", "parallels"),
    )  # fmt: skip
    if "Microsoft Corporation" in told and "Virtual Machine" in told:
        return "microsoft"
    if host.line("/sys/hypervisor/type") == "xen":
        return "xen"
    return next((kind for mark, kind in marks if mark in told), "")


def packages(host: Host) -> tuple[str, ...]:
    """Of `GUEST_AGENTS` and `TOOLS`, the ones that are installed."""
    known = {**GUEST_AGENTS, **TOOLS}
    return tuple(sorted(name for name, paths in known.items() if any(next(host.glob(path), "") for path in paths)))


def listening(host: Host) -> tuple[int, ...]:
    """TCP ports that something listens on: state 0A of /proc/net/tcp and tcp6 (proc(5))."""
    found = set()
    for path in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in host.text(path).splitlines()[1:]:
            fields = line.split()
            if len(fields) > 3 and fields[3] == "0A":
                found.add(int(fields[1].rpartition(":")[2], 16))
    return tuple(sorted(found))
