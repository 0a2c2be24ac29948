"""As much of GRUB's script language as its menus and our switch use: which entry would boot, from what is on disk.

Knows set, if/elif/else/fi with [ ], source, load_env, save_env, menuentry and submenu; a function is skipped. Any other
command does nothing here. An unknown form of a test is an error, so that no text passes by being misunderstood.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import NamedTuple

from livelift.adapt.linux.grubenv import environment, environment_block


class Entry(NamedTuple):
    title: str
    id: str
    lines: tuple[str, ...]


class Menu:
    """``prefix``: GRUB's own directory. ``writable``: whether save_env can write, as it cannot on LVM."""

    def __init__(self, prefix: Path, writable: bool = True) -> None:
        self._prefix = prefix
        self._writable = writable
        self.variables: dict[str, str] = {"prefix": str(prefix)}
        self.entries: list[Entry] = []
        self._run_file(prefix / "grub.cfg")

    def chosen(self) -> Entry:
        """The default: by number, by id, by title; the first if there is no such."""
        default = self.variables.get("default", "0")
        if default.isdigit() and int(default) < len(self.entries):
            return self.entries[int(default)]
        return next((e for e in self.entries if default in (e.id, e.title)), self.entries[0])

    def wish(self) -> str:
        """What the chosen entry's kernel is told by livelift=, for an entry of ours; "own" for any other."""
        entry = self.chosen()
        if not entry.id.startswith("livelift-"):
            return "own"
        line = next(line for line in entry.lines if line.startswith("linux "))
        found = re.search(r" livelift=(\S+)", self._expand(line))
        return found[1] if found else ""

    def _expand(self, text: str) -> str:
        return re.sub(r"\$\{(\w+)\}|\$(\w+)", lambda m: self.variables.get(m[1] or m[2], ""), text)

    def _run_file(self, path: Path) -> None:
        self._run(path.read_text().splitlines())

    def _run(self, lines: list[str]) -> None:
        at = 0
        while at < len(lines):
            line = lines[at].strip()
            at += 1
            if not line or line.startswith("#"):
                continue
            word = line.split()[0]
            if word in ("menuentry", "submenu", "function"):
                end = self._block(lines, at)
                if word == "menuentry":
                    words = shlex.split(line.rstrip("{ "))
                    id = words[words.index("--id") + 1] if "--id" in words else ""
                    self.entries.append(Entry(words[1], id, tuple(x.strip() for x in lines[at : end - 1])))
                at = end
            elif word == "if":
                at = self._if(lines, at - 1)
            else:
                self._command(line)

    @staticmethod
    def _block(lines: list[str], at: int) -> int:
        depth = 1
        while depth:
            line = re.sub(r"\$\{\w+\}", "", lines[at])
            depth += line.count("{") - line.count("}")
            at += 1
        return at

    def _if(self, lines: list[str], at: int) -> int:
        """The index behind its fi."""
        done, depth, arms = False, 0, []
        while True:
            line = lines[at].strip()
            at += 1
            word = line.split()[0] if line else ""
            if word == "if":
                depth += 1
                if depth == 1:
                    arms.append((line, []))
                    continue
            if word == "fi":
                depth -= 1
                if not depth:
                    break
            if depth == 1 and word in ("elif", "else"):
                arms.append((line, []))
                continue
            arms[-1][1].append(line)
        for head, body in arms:
            if not done and (head.startswith("else") or self._test(head)):
                done = True
                self._run(body)
        return at

    def _test(self, head: str) -> bool:
        inside = re.search(r"\[ (.*) \]", head)
        assert inside, head
        return all(self._single(part) for part in inside[1].split(" -a "))

    def _single(self, text: str) -> bool:
        words = shlex.split(self._expand(text)) if text.strip() else [""]
        match words:
            case ["-s" | "-f", path]:
                return Path(path).is_file()
            case ["-z", value]:
                return not value
            case [left, "=", right]:
                return left == right
            case [value]:
                return bool(value)
        raise AssertionError(f"a test of an unknown form: {text}")

    def _command(self, line: str) -> None:
        if "=" in line.split()[0]:
            line = f"set {line}"
        words = shlex.split(self._expand(line))
        match words:
            case ["set", assignment]:
                name, _, value = assignment.partition("=")
                self.variables[name] = value
            case ["source", path]:
                self._run_file(Path(path))
            case ["load_env", *_]:
                self.variables.update(environment((self._prefix / "grubenv").read_text()))
            case ["save_env", *names] if self._writable:
                path = self._prefix / "grubenv"
                pairs = environment(path.read_text())
                for name in names:
                    pairs[name] = self.variables.get(name, "")
                    if not pairs[name]:
                        del pairs[name]
                with path.open("r+") as file:
                    file.write(environment_block(pairs))
            case _:
                pass


STOCK = r"""if [ -s $prefix/grubenv ]; then
  set have_grubenv=true
  load_env
fi
if [ "${next_entry}" ] ; then
   set default="${next_entry}"
   set next_entry=
   save_env next_entry
   set boot_once=true
else
   set default="0"
fi
function savedefault {
  if [ -z "${boot_once}" ]; then
    saved_entry="${chosen}"
  fi
}
serial --unit=0 --speed=115200
terminal_output serial
menuentry 'SYSTEM' --class debian {
  insmod ext2
  linux /boot/vmlinuz-6.1 root=UUID=1 ro
  initrd /boot/initrd.img-6.1
}
if [ -f  ${config_directory}/custom.cfg ]; then
  source ${config_directory}/custom.cfg
elif [ -z "${config_directory}" -a -f  $prefix/custom.cfg ]; then
  source $prefix/custom.cfg
fi
"""
"""The parts of a stock menu that count here: grub-mkconfig 2.06 of Debian 12 (00_header, 10_linux, 41_custom)."""
