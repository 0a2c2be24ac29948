"""Another kernel under this machine's own files: Debian's, unchanged, in QEMU without KVM.

    python -m tests.kernels bookworm [--share DIR] [--memory MIB] [--timeout SECONDS] -- COMMAND...

This machine's own kernel may refuse what a test is about (fexit programs, say). The command runs as root in the
current directory, with every file of this machine in place: the root is shared read-only and lies under a layer in
memory, so nothing that the command writes comes back, but for what is below --share, which is shared writable and
always fresh. Its output comes as it is made; the exit status is its own (125: the machine did not come up, 124: it took
too long).

Kernels: bullseye 5.10, bookworm 6.1, trixie 6.12, fetched once into the cache of `tests.vm`. Needs root, and the Debian
packages qemu-system-x86 busybox-static kmod cpio. The machine has two emulated processors and is some thirty times
slower than this one. "soft lockup" on its console: run it again. QEMU 7.2 was seen once (5.10, a program was being
attached) with both processors in the handler of one breakpoint for ever: by their registers, a stale translation of
what the kernel had patched.

trixie-arm64 is a machine with 64-bit Arm processors, whose files are Debian's for these (`tests.userland`) but for
this repository: say python3 there, not .venv/bin/python. It needs the Debian packages qemu-system-arm and mmdebstrap.
What QEMU makes of Arm's loads and stores on an x86 host keeps the order of x86: a missing barrier is not seen there.
"""

from __future__ import annotations

import argparse
import compileall
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from tests.userland import userland
from tests.vm.places import NoMirror, VmError, cache, locked, mirror, path, run
from tests.vm.tree import archive

ROOT: Final = Path(__file__).resolve().parents[1]
SUITES: Final = {"bullseye": "5.10", "bookworm": "6.1", "trixie": "6.12", "trixie-arm64": "6.12"}


class Machine(NamedTuple):
    qemu: str
    words: tuple[str, ...]
    console: str
    packages: dict[str, str]


MACHINES: Final = {
    "amd64": Machine("qemu-system-x86_64", ("-cpu", "Nehalem"), "ttyS0", {"qemu-system-x86_64": "qemu-system-x86"}),
    "arm64": Machine(
        "qemu-system-aarch64", ("-machine", "virt", "-cpu", "cortex-a72"), "ttyAMA0",
        {"qemu-system-aarch64": "qemu-system-arm", "mmdebstrap": "mmdebstrap"},
    ),
}  # fmt: skip
"""By Debian's name of the processor."""


def split(suite: str) -> tuple[str, str]:
    """Release and processor."""
    release, _, arch = suite.partition("-")
    return release, arch or "amd64"


MODULES: Final = (
    "virtio_pci", "virtio_blk", "9pnet_virtio", "9p", "overlay", "loop", "ext4", "crc32c_generic", "crc32c_intel",
    "xfs", "btrfs", "xxhash_generic", "blake2b_generic", "aes_generic", "xts", "cbc", "cts", "ecb", "hmac",
    "sha512_generic",
)  # fmt: skip
"""With what they need, in this order. Those that are built in, or that a kernel has not, are passed over."""

PROGRAMS: Final = {
    "busybox": "busybox-static", "depmod": "kmod", "cpio": "cpio", "apt-get": "apt", "dpkg": "dpkg",
}  # fmt: skip

_BEGIN: Final = "KERNELS-BEGIN"
_END: Final = "KERNELS-END"
_INIT: Final = """#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
while read -r file; do insmod "/modules/$file"; done < /modules/order
nine=trans=virtio,version=9p2000.L,msize=512000
mkdir -p /below /above /root
mount -t 9p -o "$nine,ro,cache=loose" root /below
mount -t tmpfs -o size=65% tmpfs /above
mkdir /above/files /above/work
mount -t overlay -o lowerdir=/below,upperdir=/above/files,workdir=/above/work overlay /root
if [ -n "$PROJECT" ]; then
    mkdir -p /project /above/project /above/aside "/root$PROJECT"
    mount -t 9p -o "$nine,ro,cache=loose" project /project
    mount -t overlay -o lowerdir=/project,upperdir=/above/project,workdir=/above/aside overlay "/root$PROJECT"
fi
if [ -n "$SHARE" ]; then mkdir -p "/root$SHARE"; mount -t 9p -o "$nine" share "/root$SHARE"; fi
for what in proc:proc sysfs:sys devtmpfs:dev devpts:dev/pts tmpfs:dev/shm tmpfs:run tracefs:sys/kernel/tracing \\
    bpf:sys/fs/bpf securityfs:sys/kernel/security cgroup2:sys/fs/cgroup; do
    mkdir -p "/root/${what#*:}"
    mount -t "${what%%:*}" "${what%%:*}" "/root/${what#*:}"
done
ip link set lo up
cp /command /root/run/command
echo BEGIN
chroot /root /bin/bash /run/command
status=$?
[ -z "$SHARE" ] || umount "/root$SHARE"
sync
echo
echo "END $status"
poweroff -f
"""


def missing(suite: str) -> str:
    """Why this kernel cannot be started here, or an empty string."""
    programs = PROGRAMS | MACHINES[split(suite)[1]].packages
    lacking = sorted({package for program, package in programs.items() if not shutil.which(program, path=path())})
    if lacking:
        return f"needs the Debian packages {' '.join(lacking)}"
    return "" if os.geteuid() == 0 else "needs root"


def lacking(suite: str) -> str:
    """As `missing`, for this kernel: it is fetched now, if it has not been before."""
    if reason := missing(suite):
        return reason
    try:
        kernel(suite)
        if split(suite)[1] != "amd64":
            userland(*split(suite))
    except NoMirror as error:
        return str(error)
    return ""


def kernel(suite: str) -> Path:
    """Debian's kernel package of this release, unpacked. NoMirror: it cannot be had; VmError: something else."""
    place = cache() / f"kernel-{suite}"
    with locked(place.name):
        if not place.exists():
            part = place.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            with archive():
                _fetch(suite, part)
            run("depmod", "-b", part, next((part / "lib/modules").iterdir()).name)
            part.rename(place)
    return place


def _fetch(suite: str, place: Path) -> None:
    """By apt, which checks signatures, with sources and state of its own."""
    release, arch = split(suite)
    name = f"linux-image-{arch}"
    with tempfile.TemporaryDirectory() as scratch:
        state = Path(scratch)
        (state / "lists/partial").mkdir(parents=True)
        (state / "parts").mkdir()
        keys = "/usr/share/keyrings/debian-archive-keyring.gpg"
        (state / "sources").write_text(f"deb [signed-by={keys}] {mirror()} {release} main\n")
        options = [
            f"-oDir::Etc::SourceList={state}/sources", f"-oDir::Etc::SourceParts={state}/parts",
            f"-oDir::State::Lists={state}/lists", "-oDir::State::Status=/dev/null", f"-oDir::Cache={state}",
            "-oAPT::Sandbox::User=root", f"-oAPT::Architecture={arch}", f"-oAPT::Architectures={arch}",
        ]  # fmt: skip
        run("apt-get", *options, "-oAPT::Update::Error-Mode=any", "-qq", "update", cwd=state)
        wanted = run("apt-cache", *options, "depends", name, cwd=state).stdout.decode()
        names = [word for word in wanted.split() if word.startswith("linux-image-") and word != name]
        if not names:
            raise VmError(f"{suite} of {mirror()} has no {name}")
        run("apt-get", *options, "-qq", "download", names[0], cwd=state)
        run("dpkg", "-x", next(state.glob("linux-image-*.deb")), place)
    if (place / "usr/lib/modules").is_dir():
        (place / "lib").mkdir(exist_ok=True)
        (place / "usr/lib/modules").rename(place / "lib/modules")


def order(dependencies: str, names: Sequence[str]) -> list[str]:
    """Files of these modules and of all that they need, each behind what it needs. ``dependencies``: modules.dep."""
    needs = {}
    for line in dependencies.splitlines():
        file, _, others = line.partition(":")
        needs[file] = others.split()
    files = {Path(file).name.split(".")[0].replace("-", "_"): file for file in needs}
    found: dict[str, None] = {}

    def add(file: str) -> None:
        for other in needs[file]:
            add(other)
        found.setdefault(file)

    for name in names:
        if name in files:
            add(files[name])
    return list(found)


def _initramfs(place: Path, busybox: Path, command: str, shared: dict[str, str], into: Path) -> Path:
    """``shared``: variables of `_INIT` and the directories that they name."""
    modules = next((place / "lib/modules").iterdir())
    tree = into / "initramfs"
    for name in ("bin", "dev", "proc", "sys", "modules"):
        (tree / name).mkdir(parents=True)
    shutil.copy(busybox, tree / "bin/busybox")
    plain = []
    for file in order((modules / "modules.dep").read_text(), MODULES):
        packed = modules / file
        tool = {".xz": ["xz", "-dc"], ".zst": ["zstd", "-dcq"]}.get(packed.suffix, ["cat"])
        plain.append(packed.name.split(".")[0] + ".ko")
        (tree / "modules" / plain[-1]).write_bytes(run(*tool, packed).stdout)
    (tree / "modules/order").write_text("".join(f"{name}\n" for name in plain))
    (tree / "command").write_text(command)
    init = _INIT.replace("echo BEGIN", f"echo {_BEGIN}").replace('"END ', f'"{_END} ')
    variables = "".join(f"{name}={shlex.quote(value)}\n" for name, value in shared.items())
    (tree / "init").write_text(init.replace("#!/bin/busybox sh\n", f"#!/bin/busybox sh\n{variables}"))
    (tree / "init").chmod(0o755)
    image = into / "initramfs.gz"
    names = "\0".join(sorted(str(file.relative_to(tree)) for file in [tree, *tree.rglob("*")]))
    packed_tree = run("cpio", "-o", "-0", "-H", "newc", "--quiet", cwd=tree, input=names.encode()).stdout
    image.write_bytes(run("gzip", "-1", "-c", input=packed_tree).stdout)
    return image


def under(
    suite: str,
    command: Sequence[str | Path],
    share: Path | None = None,
    memory: int = 3072,
    timeout: float = 600,
    line: Callable[[str], object] = print,
    disk: Path | None = None,
) -> int:
    """Run ``command`` under the kernel of ``suite``; ``line`` is called with each line of its output. ``disk``: a file
    that is /dev/vda there."""
    place, (release, arch) = kernel(suite), split(suite)
    foreign = arch != "amd64"
    root = userland(release, arch) if foreign else Path("/")
    project, shared = str(ROOT) if foreign else "", str(share.absolute()) if share else ""
    if foreign:
        paths, busybox = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", root / "usr/bin/busybox"
    else:
        paths, busybox = path(), Path(shutil.which("busybox", path=path()) or "")
        for room in ("livelift", "tests"):  # or every process there compiles every module anew, for half a minute
            compileall.compile_dir(ROOT / room, quiet=2)
    words = shlex.join(map(str, command))
    script = f"export PATH={shlex.quote(paths)} HOME=/root\ncd {shlex.quote(os.getcwd())} && {words}\n"
    kind = MACHINES[arch]
    with tempfile.TemporaryDirectory() as scratch:
        image = _initramfs(place, busybox, script, {"SHARE": shared, "PROJECT": project}, Path(scratch))
        argv: list[object] = [
            kind.qemu, "-accel", "tcg,thread=multi,tb-size=256", *kind.words, "-smp", 2, "-m", memory,
            "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio",
            "-kernel", next((place / "boot").glob("vmlinuz-*")), "-initrd", image,
            "-append", f"console={kind.console} panic=-1 quiet mitigations=off",
            *_nine("root", str(root)), *_nine("project", project), *_nine("share", shared),
            *(["-drive", f"file={disk},format=raw,if=virtio,cache=unsafe"] if disk else []),
        ]  # fmt: skip
        machine = subprocess.Popen(
            list(map(str, argv)), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        late = threading.Event()
        timer = threading.Timer(timeout, lambda: (late.set(), machine.kill()))
        timer.start()
        try:
            status = _listen(machine, line)
        finally:
            timer.cancel()
            machine.kill()
            machine.communicate()  # ends it, and closes the pipe
    return 124 if late.is_set() else status


def _nine(tag: str, directory: str) -> list[object]:
    if not directory:
        return []
    readonly = "off" if tag == "share" else "on"
    options = f"local,id={tag},path={directory},security_model=none,multidevs=remap,readonly={readonly}"
    return ["-fsdev", options, "-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]


def _listen(machine: subprocess.Popen[bytes], line: Callable[[str], object]) -> int:
    begun, before = False, []
    assert machine.stdout is not None
    for raw in machine.stdout:
        text = raw.decode(errors="replace").rstrip("\r\n")
        if text.startswith(_END + " "):
            return int(text.split()[1])
        if begun:
            line(text)
        elif text.endswith(_BEGIN):
            begun = True
        else:
            before.append(text)
    if not begun:
        for text in before[-30:]:
            line(text)
    return 125


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", choices=[*SUITES])
    parser.add_argument("--share", type=Path)
    parser.add_argument("--memory", type=int, default=3072)
    parser.add_argument("--timeout", type=float, default=600)
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    if reason := missing(options.suite):
        parser.error(reason)

    def say(text: str) -> None:
        print(text, flush=True)

    return under(options.suite, options.command, options.share, options.memory, options.timeout, say)


if __name__ == "__main__":
    sys.exit(main())
