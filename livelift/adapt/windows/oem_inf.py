"""References of the source's own keys to third-party packages (oemN.inf) that got another number."""

from __future__ import annotations

from livelift.adapt.windows.bench import Bench, Rule
from livelift.adapt.windows.oem_numbers import mentions, renamed, value_text

REASON = "the package has another number in the merged system: {}"


def plan(bench: Bench) -> None:
    """Owners, display names, descriptions, properties: wherever a text that stayed the source's names the package."""
    numbers = bench.numbers
    changed = {old: move.number for old, move in numbers.items() if old != move.number}
    if not changed:
        return
    told = ", ".join(f"oem{old} -> oem{new}" for old, new in sorted(changed.items()))
    bench.draft.note("oem-numbers", f"third-party packages of the source under another number: {told}")
    for path, value in list(mentions(bench.control(""))):
        if bench.is_grafted(f"{bench.set}\\{path}"):
            continue
        text = value_text(value)
        new = renamed(text, numbers)
        if new != text:
            reason = REASON.format(told if len(changed) == 1 else f"{_short(text)} -> {_short(new)}")
            id = f"oem-inf/{path.replace(chr(92), '/').lower()}/{value.name.lower() or 'default'}"
            data = new.encode("utf-16-le", "surrogatepass")
            bench.set_value(id, reason, f"{bench.set}\\{path}", value.name, value.type, data)


def _short(text: str) -> str:
    return text.replace("\0", " ").strip()[:40]


RULE = Rule(
    id="oem-inf",
    touches=r"DriverInfFiles, DriverPackages, DeviceIds, OemInfMap; Services\*\Owners and texts; InfPath; "
    r"INF\oemN.inf, "
    "oemN.cat",
    does="The target's numbers stay; a source's package that collides gets a number that neither uses, everywhere. A "
    "package that both have keeps "
    "the target's number.",
    why="Both machines use the same numbers for different packages; a wrong one makes Windows treat one driver as "
    "another's.",
    evidence="{0,2,4,6,11} and {2,3,5,6,7} on two real machines: 2 and 6 collide; places of the numbers: hives of 7, "
    "1709, 1903 (measured).",
    plan=plan,
)
