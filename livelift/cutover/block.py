"""A source that has handed over and is rebooted must not serve: it boots into a target of systemd with nothing in it
but the network, ssh and the source agent (systemd.special(7): default.target; the shape is that of rescue.target).

The units of the workload are left as they are: what is not wanted by the boot is not started, whatever enables it.
Only names of ours and the one link default.target change, and `lift` puts that back exactly.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

import msgspec

from livelift.cutover.choice import kept
from livelift.errors import PreflightError, StateError
from livelift.platform.linux.programs import ENVIRONMENT

PLACE: Final = "etc/systemd/system"
TARGET: Final = "livelift-handed.target"
AGENT: Final = "livelift-handed.service"
ADDRESSES: Final = "livelift-handed-addresses.service"
BATCH: Final = "livelift-handed-addresses.batch"
DEFAULT: Final = "default.target"
NETWORK: Final = (
    *("networking.service", "systemd-networkd.service", "NetworkManager.service", "wicked.service"),
    *("network.service", "network.target"),
)


class Block(msgspec.Struct, frozen=True):
    """What stood there before. ``default``: text of the link default.target; empty: there was none. ``root``: of the
    system (another one for tests)."""

    default: str
    root: str = "/"


def check(command_line: str) -> None:
    """PreflightError: the kernel's command line names another target, so default.target would not be asked."""
    for word in command_line.split():
        if word.startswith(("systemd.unit=", "rd.systemd.unit=")) or word in ("1", "2", "3", "4", "5", "single"):
            raise PreflightError(
                f"the kernel's command line says {word}: after a reboot this machine would serve again, handed over "
                "or not",
                remedy=f"take {word} out of the boot loader's configuration and reboot before the cutover",
            )


def look(root: str = "/") -> Block:
    """StateError: default.target is no link."""
    path = os.path.join(root, PLACE, DEFAULT)
    try:
        return Block(os.readlink(path), root)
    except FileNotFoundError:
        return Block("", root)
    except OSError as error:
        raise StateError(f"{path} is not a symbolic link", remedy="systemctl set-default multi-user.target") from error


def put(
    command: Sequence[str],
    environment: Mapping[str, str],
    active: Sequence[str],
    addresses: Sequence[tuple[str, str]] = (),
    root: str = "/",
) -> None:
    """``command``: starts the source agent. ``active``: names of units that run now; those that have to live (`choice`)
    are wanted by the boot. ``addresses``: (address, interface) that have moved. Effective from the next boot on, and
    durable when this returns; the running system is not touched."""
    place = os.path.join(root, PLACE)
    wanted = [unit for unit in active if kept(unit)] + [AGENT] + ([ADDRESSES] if addresses else [])
    _write(os.path.join(place, AGENT), _agent(command, environment))
    if addresses:
        lines = [f"address del {address} dev {interface}\n" for address, interface in addresses]
        _write(os.path.join(place, BATCH), "".join(lines))
        _write(os.path.join(place, ADDRESSES), _addresses(os.path.join("/", PLACE, BATCH)))
    _write(os.path.join(place, TARGET), _target(wanted))
    _link(place, TARGET)


def lift(block: Block) -> None:
    """Nothing of ours is left. A default.target that somebody has set since stays as it is."""
    place = os.path.join(block.root, PLACE)
    with suppress(FileNotFoundError):
        if os.readlink(os.path.join(place, DEFAULT)) == TARGET:
            if block.default:
                _link(place, block.default)
            else:
                os.unlink(os.path.join(place, DEFAULT))
    for name in (TARGET, AGENT, ADDRESSES, BATCH):
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(place, name))
    _sync(place)


def retire(root: str = "/") -> None:
    """The job ends and the machine stays as it is: nothing starts the agent any more."""
    place = os.path.join(root, PLACE)
    path = os.path.join(place, TARGET)
    with open(path, encoding="utf-8") as file:
        text = file.read()
    _write(path, text.replace(f" {AGENT}", "").replace("livelift rollback", "systemctl set-default multi-user.target"))
    with suppress(FileNotFoundError):
        os.unlink(os.path.join(place, AGENT))
    _sync(place)


def is_up(root: str = "/") -> bool:
    with suppress(OSError):
        return os.readlink(os.path.join(root, PLACE, DEFAULT)) == TARGET
    return False


def _target(wanted: Sequence[str]) -> str:
    return f"""# Made by Livelift: this machine's service runs on another machine now.
# To let this one serve again, having made sure that the other does not: livelift rollback
[Unit]
Description=Livelift: handed over, only network, ssh and the source agent
Requires=sysinit.target
After=sysinit.target
Wants={" ".join(wanted)}
AllowIsolate=yes
"""


def _agent(command: Sequence[str], environment: Mapping[str, str]) -> str:
    settings = "".join(f"Environment={_quoted(f'{name}={value}')}\n" for name, value in environment.items())
    return f"""# Made by Livelift: asks the other machine whether the new system stands.
[Unit]
Description=Livelift source agent of a machine that has handed over
After={" ".join(NETWORK)}
[Service]
ExecStart={" ".join(_quoted(word).replace("$", "$$") for word in command)}
{settings}Restart=on-failure
RestartSec=2
"""


def _addresses(batch: str) -> str:
    return f"""# Made by Livelift: these addresses are another machine's now.
[Unit]
Description=Livelift: take moved addresses off
After={" ".join(NETWORK)}
Before=ssh.service sshd.service {AGENT}
[Service]
Type=oneshot
ExecStart=-{shutil.which("ip", path=ENVIRONMENT["PATH"]) or "/sbin/ip"} -force -batch {_quoted(batch)}
"""


def _quoted(word: str) -> str:
    """systemd.syntax(7), systemd.unit(5): C escapes within double quotes, % doubled."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("\n", "\\n")
    return f'"{escaped}"'


def _write(path: str, text: str) -> None:
    fresh = path + ".livelift-new"
    with open(fresh, "w", encoding="utf-8", opener=lambda p, f: os.open(p, f | os.O_NOFOLLOW, 0o644)) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, path)


def _link(place: str, text: str) -> None:
    fresh = os.path.join(place, f"{DEFAULT}.livelift-new")
    with suppress(FileNotFoundError):
        os.unlink(fresh)
    os.symlink(text, fresh)
    os.replace(fresh, os.path.join(place, DEFAULT))
    _sync(place)


def _sync(place: str) -> None:
    fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
