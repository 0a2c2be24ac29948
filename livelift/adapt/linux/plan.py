"""The whole plan for a Linux server: every rule in order."""

from __future__ import annotations

from livelift.adapt.linux import bootloader, cloud, identity, initramfs, kernels, network, packages, selinux, storage
from livelift.adapt.linux.case import Case, Policy
from livelift.adapt.linux.trees import Tree
from livelift.adapt.plan import Plan
from livelift.model.facts import ServerFacts

RULES = (
    kernels.keep_target_kernels,
    kernels.unite_firmware,
    kernels.keep_modprobe,
    storage.fstab,
    storage.crypttab,
    storage.mdadm,
    storage.lvm,
    storage.multipath,
    storage.resume,
    storage.stale_names,
    network.adapt,
    identity.identity,
    identity.leftovers,
    cloud.cloud_init,
    cloud.guest_agents,
    packages.grub_platform,
    packages.debconf,
    bootloader.adapt,
    initramfs.rebuild,
)
"""initramfs last: the tools read the tables that the others write. Labels come after everything (`selinux.relabel`)."""


def make_plan(source: ServerFacts, target: ServerFacts, old: Tree, new: Tree, policy: Policy | None = None) -> Plan:
    """Pure: the same input gives the same plan. ``old``: the source's files, ``new``: the target's."""
    case = Case(source, target, old, new, policy or Policy())
    title = f"{source.hostname} ({source.release.name}) onto {target.hostname}"
    if not case.family or case.family != target.release.family:
        case.draft.inhibit(
            "distribution-differs",
            f"the source runs {source.release.name or 'an unknown system'}, the target {target.release.name}",
            "install the source's distribution on the target",
        )
        return case.draft.plan(title)
    for rule in RULES:
        rule(case)
    selinux.relabel(case, case.draft.plan(title))
    return case.draft.plan(title)


def inputs_of(plan: Plan) -> frozenset[str]:
    """Paths of the source whose content the plan was made from, and paths that it changes: when the source changes one
    of them, the plan is made again, and replay does not overwrite what stands there."""
    found = {text.removeprefix("source:") for edit in plan.edits for text in edit.inputs if text.startswith("source:")}
    return frozenset(found | {edit.touches for edit in plan.edits})
