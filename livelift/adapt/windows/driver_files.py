"""Driver files: what the merged services need and the source's tree lacks comes from the target."""

from __future__ import annotations

import re

from livelift.adapt.changes import CopyFile, CopyTree
from livelift.adapt.windows.bench import Bench, Rule
from livelift.adapt.windows.files import FileFact, same_content
from livelift.adapt.windows.images import WITHOUT_FILE, image_path, is_driver
from livelift.registry.tree import Key, fold
from livelift.registry.values import list_of, number_of

STORE = "Windows/System32/DriverStore/FileRepository"
SYSTEM_VERSION = re.compile(r"6\.[123]\.\d{4}\.|10\.0\.\d{5}\.")
"""File versions of in-box drivers: 6.1.7601.x, 6.3.9600.x, 10.0.17763.x."""
UMDF = "Windows/System32/drivers/UMDF"


def plan(bench: Bench) -> None:
    _store(bench)
    kept: list[str] = []
    seen: set[str] = set()
    for service in bench.control_key("Services"):
        path = image_path(service.name, service)
        if is_driver(service) and path is not None and _image(bench, service, path, kept, fold(path) in seen):
            seen.add(fold(path))
    _umdf(bench)
    if kept:
        bench.draft.note(
            "in-box-files-kept",
            f"{len(kept)} in-box drivers differ and stay the source's, whose kernel boots: "
            f"{', '.join(sorted(kept)[:20])}",
            "install the same updates on both machines to be sure",
        )


def _store(bench: Bench) -> None:
    """Directories of the driver store are named by a digest of their content: those that the source lacks are added."""
    ours, theirs = bench.source.files.subtrees(STORE), bench.target.files.subtrees(STORE)
    for name in sorted(theirs.keys() - ours.keys()):
        files = theirs[name]
        first = files[0].path
        path = "/".join(first.split("/")[: STORE.count("/") + 2])
        change = CopyTree(path, path, len(files), sum(file.size for file in files))
        reason = "a driver package of the target; services and devices point into its directory"
        bench.edit(f"driver-files/store/{name.lower()}", reason, change)
    if not bench.target.files.knows(STORE):
        bench.draft.inhibit(
            "store-not-listed", f"the target's {STORE} was not listed", "give the target's whole Windows directory"
        )


def _image(bench: Bench, service: Key, path: str, kept: list[str], copied: bool) -> bool:
    """Whether the file comes from the target. ``copied``: another service has seen to that."""
    ours, theirs = bench.source.files.get(path), bench.target.files.get(path)
    if copied:
        return True
    if theirs is None:
        if ours is None and bench.source.files.knows(path) and bench.target.files.knows(path):
            _missing(bench, service, path)
        return False
    in_store = fold(path).startswith(fold(STORE) + "/")
    if ours is not None:
        return not in_store and not same_content(ours, theirs) and _differ(bench, service, ours, theirs, kept)
    directory = path[len(STORE) + 1 :].partition("/")[0]
    if in_store and fold(directory) not in bench.source.files.subtrees(STORE):
        return True  # with its directory
    reason = f"the driver {service.name} of the merged system needs it"
    change = CopyFile(path, theirs.path, theirs.size, theirs.digest)
    bench.edit(f"driver-files/{service.name.lower()}", reason, change)
    return True


def _differ(bench: Bench, service: Key, ours: FileFact, theirs: FileFact, kept: list[str]) -> bool:
    """Both have the file, with another content (or it is not known to be equal). A driver that is still the source's
    keeps the source's file; one that became the target's has the target's, unless it belongs to the system."""
    name = service.name
    path = f"{bench.set}\\{bench.control_key('Services').name}\\{name}"
    if bench.target.control(f"Services\\{name}") is None or not bench.is_grafted(path):
        return False
    third = third_party(service, theirs)
    if third is None:
        bench.draft.warn(
            "driver-file-differs",
            f"{ours.path}: both machines have another one, and nothing tells whether it is in-box; the source's stays",
            "compare their versions; copy the target's if it is a vendor's driver",
        )
    elif third:
        change = CopyFile(ours.path, theirs.path, theirs.size, theirs.digest)
        reason = "a vendor's driver, in the version that the target's devices run with"
        before = [f"{ours.size} bytes {ours.version} {ours.digest}"]
        bench.edit(f"driver-files/{name.lower()}", reason, change, before=before)
    else:
        kept.append(name)
    return third is True


def third_party(service: Key, file: FileFact) -> bool | None:
    """Whether a vendor's package installed the driver: its owners are oem INFs (from Windows 8 on); without owners, its
    version is not the system's. None where nothing tells."""
    owners = [name for name in list_of(service.value("Owners")) if not name.startswith("!")]
    if owners:
        return all(fold(name).startswith("OEM") for name in owners)
    return SYSTEM_VERSION.match(file.version) is None if file.version else None


def _missing(bench: Bench, service: Key, path: str) -> None:
    start = number_of(service.value("Start"), 4)
    override = service.get("StartOverride")
    off = override is not None and number_of(override.value("0"), 0) >= 3
    if start != 0 or off or fold(service.name) in WITHOUT_FILE or fold(service.name) in bench.disabled:
        return
    bench.draft.inhibit(
        f"boot-file-missing-{service.name.lower()}",
        f"{service.name} starts at boot, and neither machine has its file {path}",
        "repair it on the target, or skip the driver: replace its Start by 4 in the rules file",
    )


def _umdf(bench: Bench) -> None:
    ours = bench.source.files.directory(UMDF)
    for name, file in sorted(bench.target.files.directory(UMDF).items()):
        if name not in ours:
            change = CopyFile(file.path, file.path, file.size, file.digest)
            bench.edit(f"driver-files/umdf/{name.lower()}", "a user-mode driver of the target's devices", change)


RULE = Rule(
    id="driver-files",
    touches=r"System32\drivers\*.sys, drivers\UMDF, DriverStore\FileRepository",
    does="Missing files and store directories from the target; where both differ: a vendor's from the target, in-box "
    "from the source, whose kernel boots.",
    why="A boot driver without its file is bug check 0x7B; from 1903 on services point into the driver store, whose "
    "names differ by build.",
    evidence="10 to 11 ImagePaths into the store on 1903 and 2004, 2 on 1709, none before (measured).",
    plan=plan,
)
