"""How the stage is started by an initramfs, by its kind: initramfs-tools or dracut. Pure.

Both run it when the root is mounted and nothing of it has been started. The hook is a shell script, for it must decide
even if the private Python does not run: a mixture of two systems is never started.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from livelift.errors import PreflightError
from livelift.takeover.stage_main import HOME, python_words

ORDER: Final = "scripts/init-bottom/ORDER"
"""initramfs-tools sources it: one line for each script, in the order that mkinitramfs found (run_scripts)."""
SCRIPT: Final = "scripts/init-bottom/livelift"
DRACUT_HOOKS: Final = ("usr/lib/dracut/hooks", "lib/dracut/hooks", "var/lib/dracut/hooks")
"""The last since dracut 106."""
DRACUT_NAME: Final = "00-livelift-takeover.sh"

WRAPPER: Final = f"""#!/bin/sh
# Livelift's take-over stage. $1: where the root is mounted. Exit code 0: the boot goes on.
{" ".join(python_words())} stage "$1" && exit 0
generation= direction= moving= live=
if [ -r "$1/.livelift/swap/state" ]; then
    {{ read -r word; read -r generation direction moving live; }} <"$1/.livelift/swap/state"
fi
case "$direction $moving $live" in
    "  " | "forward settled new" | "back settled old")
        echo "livelift: the stage failed; the old system stands and is started"
        exit 0
        ;;
    "forward settled old" | "back settled new")
        while read -r line; do
            case "$line" in
                *'"phase": "confirmed"'* | *'"phase": "committing"'*)
                    echo "livelift: the stage failed; the new system stands, has confirmed and is started"
                    exit 0
                    ;;
            esac
        done <"$1/.livelift/takeover/state.json"
        ;;
esac
echo "livelift: the stage failed, and what stands on the root may not be started: $direction $moving $live"
echo "livelift: in 60 s this machine reboots and tries again; a rescue system can look at .livelift/takeover/log"
echo "<2>livelift: the stage failed, nothing is started; rebooting in 60 s" >/dev/kmsg
sleep 60
echo s >/proc/sysrq-trigger
sleep 2
echo b >/proc/sysrq-trigger
sleep 3600
exit 1
"""

_INITRAMFS_TOOLS: Final = f"""#!/bin/sh
[ "$1" = prereqs ] && exit 0
exec {HOME}/hook "$rootmnt"
"""

_DRACUT: Final = f"""#!/bin/sh
{HOME}/hook "$NEWROOT"
"""


class HookFile(NamedTuple):
    """``path`` without a slash in front. ``directory``: it has to be made first."""

    path: str
    content: str
    directory: str = ""


def hook_files(names: Iterable[str], contents: Mapping[str, str]) -> list[HookFile]:
    """What starts the stage in an image with these entries. ``contents``: of `ORDER`, if the image has one.

    PreflightError: its kind is not known."""
    present = set(names)
    if "scripts/functions" in present and "init" in present:
        if ORDER not in contents:
            raise PreflightError(
                f"the initramfs is of initramfs-tools and has no {ORDER}", remedy="run update-initramfs -u, look again"
            )
        line = f'/{SCRIPT} "$@"\n[ -e /conf/param.conf ] && . /conf/param.conf\n'
        kept = contents[ORDER].replace(line, "")
        return [HookFile(SCRIPT, _INITRAMFS_TOOLS), HookFile(ORDER, line + kept)]
    for hooks in DRACUT_HOOKS:
        if hooks in present:
            place = f"{hooks}/pre-pivot"
            return [HookFile(f"{place}/{DRACUT_NAME}", _DRACUT, "" if place in present else place)]
    raise PreflightError(
        "the target's initramfs was made neither by initramfs-tools nor by dracut",
        remedy="install one of them on the target and build the initramfs of its running kernel with it",
    )
