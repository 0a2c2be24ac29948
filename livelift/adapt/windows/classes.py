"""Setup classes (Control\\Class): the target's, with the source's class filters where they can still run."""

from __future__ import annotations

from livelift.adapt.windows.bench import Bench, Rule
from livelift.adapt.windows.devices import keep_instances
from livelift.adapt.windows.images import image_path
from livelift.registry.tree import Key, fold
from livelift.registry.values import list_of, number_of, text_of

FILTERS = ("UpperFilters", "LowerFilters")
DISABLED = 4


def plan(bench: Bench) -> None:
    if not bench.graft_control("classes/class", "driver instances belong to the target's devices", "Control\\Class"):
        bench.draft.inhibit("no-class-target", "the target has no Control\\Class", "check the target's SYSTEM hive")
        return
    keep_instances(bench)
    source = bench.source.control("Control\\Class") or Key("")
    target = bench.target.control("Control\\Class") or Key("")
    for ours in source:
        if target.get(ours.name) is None:
            _source_only(bench, ours)
    for cls in bench.control_key("Control\\Class"):
        for name in FILTERS:
            _filters(bench, cls.name, name, source.get(cls.name), target.get(cls.name))


def _source_only(bench: Bench, cls: Key) -> None:
    """A class that the target does not know is kept, without the source's devices."""
    path = f"{bench.set}\\Control\\Class\\{cls.name}"
    reason = "a setup class that only the source has; its instances belong to devices that are gone"
    label = f"{cls.name.lower()}"
    bench.graft(
        f"classes/{label}", reason, path, f"{bench.source.control_set}\\Control\\Class\\{cls.name}", side="source"
    )
    for instance in [key.name for key in cls if key.name.isdecimal()]:
        bench.remove_key(f"classes/{label}/{instance}", reason, f"{path}\\{instance}")


def _filters(bench: Bench, guid: str, name: str, ours: Key | None, theirs: Key | None) -> None:
    """The target's order, then the source's filters that survive; names without a driver go."""
    first = list_of(theirs.value(name)) if theirs is not None else []
    then = list_of(ours.value(name)) if ours is not None else []
    known = {fold(part) for part in first}
    dropped = []
    merged = []
    for part in first:
        if _runs(bench, part, "target"):
            merged.append(part)
        else:
            dropped.append(part)
    added = []
    for part in then:
        if fold(part) in known:
            continue
        known.add(fold(part))
        if _runs(bench, part, "source"):
            added.append(part)
        else:
            dropped.append(part)
    merged += added
    if merged == first:
        return
    label = text_of((theirs or ours or Key("")).value("Class")) or guid
    reason = (
        "target's filters first, then those of the source whose service and file exist; a name without a driver stops "
        f"every device of the class {label} (bug check 0x7B for disks)"
    )
    bench.set_list(
        f"classes/{guid.lower()}/{name.lower()}",
        reason,
        f"{bench.set}\\Control\\Class\\{guid}",
        name,
        merged,
    )
    if dropped:
        bench.draft.note(
            f"filters-dropped-{name.lower()}", f"class {label}: {name} {', '.join(dropped)} have no driver to run"
        )
    if added:
        bench.draft.warn(
            "filters-kept",
            f"class {label}: {name} {', '.join(added)} of the source run on the target's devices",
            "skip the edit in the rules file if a filter belongs to the source's hardware",
        )


def _runs(bench: Bench, name: str, side: str) -> bool:
    """Whether a filter driver can be loaded: a service that is not disabled, and its file (where the listing tells)."""
    machine = bench.source if side == "source" else bench.target
    service = machine.control(f"Services\\{name}")
    if service is None or number_of(service.value("Start"), DISABLED) == DISABLED or fold(name) in bench.disabled:
        return False
    path = image_path(name, service)
    return path is None or machine.files.get(path) is not None or not machine.files.knows(path)


RULE = Rule(
    id="classes",
    touches=r"CSn\Control\Class: instances, UpperFilters, LowerFilters",
    does="The target's tree; filter lists are united, the target's order first; classes that only the source has stay, "
    "without instances.",
    why="A filter whose driver is missing keeps every device of its class from starting: for disks that is bug check "
    "0x7B.",
    evidence="Azure repair-script-library PR 156; virt-v2v removes such names too (sources read). Class lists of three "
    "hives (measured).",
    plan=plan,
)
