"""cloud-init and guest agents: nothing may set the moved machine up anew, and no agent of the old hypervisor runs."""

from __future__ import annotations

from livelift.adapt.changes import MakeLink, RenameFile, WriteFile
from livelift.adapt.linux.case import Case

UNITS = {
    "open-vm-tools": ("vmware", ("open-vm-tools.service", "vgauth.service", "vmtoolsd.service", "vgauthd.service")),
    "vmware-tools": ("vmware", ("vmware-tools.service", "vmware-tools-thinprint.service")),
    "virtualbox-guest": ("oracle", ("vboxadd.service", "vboxadd-service.service", "virtualbox-guest-utils.service")),
    "xe-guest-utilities": ("xen", ("xe-linux-distribution.service", "xe-daemon.service")),
    "hyperv-daemons": ("microsoft", ("hv-kvp-daemon.service", "hv-vss-daemon.service", "hv-fcopy-daemon.service",
                                     "hypervkvpd.service", "hypervvssd.service")),
    "walinuxagent": ("microsoft", ("walinuxagent.service", "waagent.service")),
    "parallels-tools": ("parallels", ("prltoolsd.service",)),
    "qemu-guest-agent": ("kvm", ("qemu-guest-agent.service", "qemu-ga.service")),
    "google-guest-agent": ("kvm", ("google-guest-agent.service",)),
    "amazon-ssm-agent": ("kvm", ("amazon-ssm-agent.service",)),
}  # fmt: skip
"""Package to the hypervisor that it talks to and its units."""
CONFIG = "etc/cloud/cloud.cfg.d/99-livelift.cfg"
KEEP = """# Written by livelift: this server was moved; nothing of it is to be set up anew.
network: {config: disabled}
preserve_hostname: true
ssh_deletekeys: false
ssh_genkeytypes: []
growpart: {mode: "off"}
resize_rootfs: false
"""


def cloud_init(case: Case) -> None:
    """cloud-init runs all modules of a first boot when the instance id is new to it: the source's record gets the
    target's id. Where the target is in no cloud, it is switched off (cloud-init docs, "first boot determination")."""
    source, target = case.source.cloud_init, case.target.cloud_init
    if not source.present:
        return
    if not (target.present and target.instance):
        path = "etc/cloud/cloud-init.disabled"
        if not case.old.has(path):
            case.write("cloud-init", path, "livelift: the target is in no cloud\n", "cloud-init would wait for a cloud")
        return
    name = target.datasource.removeprefix("DataSource").removesuffix("Local").removesuffix("Net")
    pin = f"datasource_list: [{name}, None]\n" if name else ""
    case.write("cloud-init", CONFIG, KEEP + pin, "cloud-init may not change network, name, keys or partitions")
    if target.instance == source.instance:
        return
    old, new = f"var/lib/cloud/instances/{source.instance}", f"var/lib/cloud/instances/{target.instance}"
    why = "the target's instance id would be new to cloud-init, and everything be set up again"
    if source.instance and case.old.has(old) and not case.old.has(new):
        case.draft.edit(f"cloud-init/{old}", why, RenameFile(old, new), inputs=("facts: cloud_init",), before=(old,))
        link = MakeLink("var/lib/cloud/instance", f"/{new}")
        case.draft.edit("cloud-init/var/lib/cloud/instance", why, link, inputs=("facts: cloud_init",))
    for path in ("var/lib/cloud/data/instance-id", "var/lib/cloud/data/previous-instance-id"):
        change = WriteFile(path, f"{target.instance}\n".encode())
        case.draft.edit(f"cloud-init/{path}", why, change, inputs=("facts: cloud_init",), before=(source.instance,))


def guest_agents(case: Case) -> None:
    """Masked, not removed: the package manager would put them back, and a way back stays open."""
    lib = f"{case.old.lib}/systemd/system"
    for package, (hypervisor, units) in UNITS.items():
        if package not in case.source.packages or hypervisor == case.target.hypervisor:
            continue
        present = [u for u in units if case.old.has(f"{lib}/{u}") or case.old.has(f"etc/systemd/system/{u}")]
        for unit in present:
            path = f"etc/systemd/system/{unit}"
            before = (case.old.items[path].kind,) if case.old.has(path) else ()
            case.draft.edit(
                f"guest-agent/{unit}",
                f"{package} talks to {hypervisor}, which is not there",
                MakeLink(path, "/dev/null"),
                inputs=("source facts: packages", "target facts: hypervisor"),
                before=before,
            )
        if not present:
            case.draft.warn(
                "guest-agent", f"{package} is on the source, but no unit of it is known", "remove it after the commit"
            )
    for package, (hypervisor, _) in UNITS.items():
        if package in case.target.packages and package not in case.source.packages:
            case.draft.note(
                "guest-agent-missing",
                f"the target runs {package} for {hypervisor or 'its hypervisor'}; the moved system has none",
                f"install {package} after the commit",
            )
