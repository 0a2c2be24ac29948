"""python -m tests.vm: two virtual machines with unlike hardware, by hand.

    build [PROFILE...]             make the images (default: source and target); cached
    up [NAME[=PROFILE]...]         start from fresh overlays and wait for ssh (default: source target)
       --keep | --saved TAG        from the disk it had | from what `save` kept
    ssh NAME [COMMAND...]          as root
    push NAME FILE... PLACE        copy into it            pull NAME FILE... PLACE   copy out of it
    mark NAME                      it is about to reboot itself: note where its serial log is now; then
    wait NAME [--new]              for ssh (--new: by another boot than the last one that answered)
    reset NAME | cut NAME          the reset button, and wait | the power is cut at once
    cut NAME --at REGEX            ... as soon as its serial log says that
    link NAME off | on             pull its plug from the wire between the two, or put it back
    save TAG [NAME...]             keep memory and disk of both;     load TAG [NAME...]   back to there, in seconds
    console NAME [-n N] [-f]       its serial log          monitor NAME COMMAND...   of QEMU
    down [NAME...] [--hard]        stop                    status                    what runs, and where
    config                         the file for: livelift migrate root@source root@target --ssh-config FILE

Environment: LIVELIFT_VM_CACHE (images), LIVELIFT_VM_HOME (what runs; another one for a second set of machines),
LIVELIFT_VM_MIRROR, LIVELIFT_VM_ACCEL. See docs/internals/virtual-machines.md.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.vm import image, places
from tests.vm.machine import BOOT, ROLES, Machine, save_together, write_config
from tests.vm.places import VmError
from tests.vm.profiles import SUITES


def say(*words: object) -> None:
    print(*words, file=sys.stderr, flush=True)


def build(options: argparse.Namespace) -> None:
    for name, path in image.build(options.names or list(ROLES), options.suite).items():
        print(name, path)


def up(options: argparse.Namespace) -> None:
    pairs = [name.partition("=") for name in options.names or ROLES]
    fresh = [profile or name for name, _, profile in pairs if not options.keep and not options.saved]
    image.build(fresh, options.suite)
    machines = [(Machine(name), profile) for name, _, profile in pairs]
    for machine, profile in machines:
        machine.up(profile, options.suite, options.keep, options.saved)
    for machine, _ in machines:
        say(f"{machine.name}: up after {machine.wait(options.timeout):.1f} s")


def ssh(options: argparse.Namespace) -> int:
    words = options.command if len(options.command) < 2 else [shlex.join(options.command)]
    return subprocess.run(Machine(options.name).ssh_argv(words), check=False).returncode


def wait(options: argparse.Namespace) -> None:
    say(f"{options.name}: up after {Machine(options.name).wait(options.timeout, options.new):.1f} s")


def reset(options: argparse.Namespace) -> None:
    machine = Machine(options.name)
    machine.reset()
    say(f"{machine.name}: up after {machine.wait(options.timeout, new=True):.1f} s")


def cut(options: argparse.Namespace) -> None:
    machine = Machine(options.name)
    if options.at:
        say(f"{machine.name} said: {machine.cut_power_at(options.at, options.timeout)}")
    else:
        machine.cut_power()


def save(options: argparse.Namespace) -> None:
    save_together([Machine(name) for name in options.names or ROLES], options.tag)


def load(options: argparse.Namespace) -> None:
    for name in options.names or ROLES:
        Machine(name).load(options.tag)


def down(options: argparse.Namespace) -> None:
    for name in options.names or ROLES:
        Machine(name).down(options.hard)


def console(options: argparse.Namespace) -> None:
    machine = Machine(options.name)
    if options.follow:
        os.execvp("tail", ["tail", "-n", str(options.n), "-F", str(machine.dir / "serial.log")])
    print(machine.serial.tail(options.n))


def status(_options: argparse.Namespace) -> None:
    for name in ROLES:
        machine, pid = Machine(name), Machine(name).pid()
        if not pid:
            print(f"{name}: off")
            continue
        facts = machine.facts
        memory = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
        ports = ", ".join(f"{there} at {here}" for there, here in facts["ports"].items())
        print(f"{name}: {facts['profile']} {facts['suite']}, pid {pid}, {int(memory[1]) >> 10 if memory else 0} MiB, "
              f"booted in {facts.get('boot_seconds')} s, disk {machine.disk.stat().st_blocks >> 11} MiB; "
              f"ports of 127.0.0.1: {ports}")  # fmt: skip
    print(f"home {places.home()}, cache {places.cache()}")


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="python -m tests.vm", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    top.add_argument("--suite", default="bookworm", choices=SUITES)
    top.add_argument("--timeout", type=float, default=BOOT, help="seconds to wait for a boot")
    verbs = top.add_subparsers(required=True, metavar="COMMAND")

    def verb(name: str, run: Callable[[argparse.Namespace], Any]) -> argparse.ArgumentParser:
        made = verbs.add_parser(name)
        made.set_defaults(run=run)
        return made

    verb("build", build).add_argument("names", nargs="*")
    one = verb("up", up)
    one.add_argument("names", nargs="*")
    one.add_argument("--keep", action="store_true")
    one.add_argument("--saved", default="")
    one = verb("ssh", ssh)
    one.add_argument("name")
    one.add_argument("command", nargs=argparse.REMAINDER)
    for name, copy in (("push", Machine.push), ("pull", Machine.pull)):
        one = verb(name, lambda options, copy=copy: copy(Machine(options.name), options.files, options.place))
        one.add_argument("name")
        one.add_argument("files", nargs="+")
        one.add_argument("place")
    verb("mark", lambda options: Machine(options.name).mark()).add_argument("name")
    one = verb("wait", wait)
    one.add_argument("name")
    one.add_argument("--new", action="store_true")
    verb("reset", reset).add_argument("name")
    one = verb("cut", cut)
    one.add_argument("name")
    one.add_argument("--at", default="", metavar="REGEX")
    one = verb("link", lambda options: Machine(options.name).link(options.plug == "on"))
    one.add_argument("name")
    one.add_argument("plug", choices=("on", "off"))
    for name, run in (("save", save), ("load", load)):
        one = verb(name, run)
        one.add_argument("tag")
        one.add_argument("names", nargs="*")
    one = verb("console", console)
    one.add_argument("name")
    one.add_argument("-n", type=int, default=40)
    one.add_argument("-f", "--follow", action="store_true")
    one = verb("monitor", lambda options: print(Machine(options.name).monitor(" ".join(options.command))))
    one.add_argument("name")
    one.add_argument("command", nargs="+")
    one = verb("down", down)
    one.add_argument("names", nargs="*")
    one.add_argument("--hard", action="store_true")
    verb("status", status)
    verb("config", lambda _options: print(write_config(places.home())))
    return top


def main() -> int:
    options = parser().parse_args()
    places.home().mkdir(parents=True, exist_ok=True)
    try:
        return options.run(options) or 0
    except VmError as error:
        say(f"vm: {error}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
