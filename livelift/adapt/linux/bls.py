"""Boot Loader Specification, type 1, as the GRUB of Fedora and RHEL reads it: one file a kernel."""

from __future__ import annotations

from livelift.adapt.linux.case import Case
from livelift.adapt.linux.grubenv import environment, environment_block
from livelift.adapt.linux.menus import command_line, entries


def write_entries(case: Case) -> None:
    """Files are named by the machine-id. grub.cfg itself is generic and stays the target's."""
    machine_id = case.target.machine_id if case.policy.machine_id == "target" else case.source.machine_id
    line = command_line(case)
    listed = entries(case)
    wanted = [f"boot/loader/entries/{machine_id}-{entry.version}.conf" for entry in listed]
    for path in case.old.matching("boot/loader/entries/*.conf"):
        if path not in wanted:
            case.delete(
                "boot-loader", path, "a rescue image, or named by another machine-id, for the source's hardware"
            )
    for path, entry in zip(wanted, listed, strict=True):
        text = (
            f"title {entry.title}\nversion {entry.version}\nlinux {entry.image}\ninitrd {entry.initrd}\n"
            f"options {line}\ngrub_users $grub_users\ngrub_arg --unrestricted\n"
            f"grub_class {case.source.release.id}\n"
        )
        case.write("boot-loader", path, text, "an entry of each kernel, with the target's root")
    if listed:
        _default_entry(case, f"{machine_id}-{listed[0].version}")
    if case.old.has("etc/kernel/cmdline"):
        case.write("boot-loader", "etc/kernel/cmdline", f"{line}\n", "new kernels take their command line from here")


def _default_entry(case: Case, entry: str) -> None:
    path = case.target.boot_loader.environment.lstrip("/")
    if not path:
        return
    item = case.new.items.get(path)
    if (
        item is not None and item.kind == "link"
    ):  # RHEL 8 by UEFI: on the ESP, which the old system uses until the commit
        case.draft.note("grubenv-on-esp", f"/{path} is on the ESP and is left alone: the first entry boots")
        return
    old = case.new.contents.get(path, b"").decode("utf-8", "surrogateescape")
    kept = {k: v for k, v in environment(old).items() if k not in ("saved_entry", "next_entry", "kernelopts")}
    kept["saved_entry"] = entry
    if "kernelopts" in environment(old):
        kept["kernelopts"] = command_line(case)
    case.write(
        "boot-loader",
        path,
        environment_block(kept),
        "the target's kernel is the default",
        (f"target:{path}",),
        always=True,
    )
