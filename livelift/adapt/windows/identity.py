"""What makes the machine the one that clients, domain and licences know: never mixed."""

from __future__ import annotations

from livelift.adapt.windows.apply import same_tree
from livelift.adapt.windows.bench import Bench, Rule
from livelift.adapt.windows.system import BCD, DRIVERS, SYSTEM

KEYS = (
    "Control\\Lsa",
    "Control\\ComputerName",
    "Control\\ProductOptions",
    "Control\\SecurityProviders",
    "Control\\TimeZoneInformation",
)
"""Below the control set. The boot key is in the class names of Lsa\\JD, Skew1, GBG and Data; SAM, SECURITY and DPAPI
are encrypted with it."""
ROOTS = ("WPA", "RNG")
HIVES = frozenset((SYSTEM, DRIVERS, BCD))
"""The only hives that a plan may change: SAM, SECURITY, SOFTWARE, DEFAULT and the users' are the source's, whole."""


def plan(bench: Bench) -> None:
    """Makes no edit; finds that another rule did where none may."""
    if strange := sorted(bench.merged.keys() - HIVES):
        bench.draft.inhibit("identity-mixed", f"edits of {', '.join(strange)}", "report it: no rule may do that")
    before, after = bench.source.hives[SYSTEM].root, bench.merged[SYSTEM].root
    for path in (*(f"{bench.set}\\{key}" for key in KEYS), *ROOTS):
        if not same_tree(before.find(path), after.find(path)):
            bench.draft.inhibit("identity-mixed", f"{path} would not be the source's", "report it: no rule may do that")
    lsa = before.find(f"{bench.set}\\Control\\Lsa")
    classes = [lsa.get(name) for name in ("JD", "Skew1", "GBG", "Data")] if lsa is not None else [None]
    if any(key is None or not key.class_name for key in classes):
        bench.draft.inhibit(
            "no-boot-key",
            "the source's Control\\Lsa does not hold a boot key (class names of JD, Skew1, GBG, Data)",
            "the hive is not whole: read it again with RegSaveKeyEx or from a snapshot",
        )


RULE = Rule(
    id="identity",
    touches=r"CSn\Control\Lsa, ComputerName, ProductOptions, SecurityProviders, TimeZoneInformation; \WPA, \RNG; SAM, "
    "SECURITY, SOFTWARE",
    does="Never changed. A plan that changes one is refused.",
    why="SAM, SECURITY and DPAPI are encrypted with the boot key in Lsa's class names; licences and domain trust go by "
    "the rest.",
    evidence="Class names are in all five hives at hand (measured).",
    plan=plan,
)
