"""Identity, leftovers, cloud-init, guest agents."""

from __future__ import annotations

from livelift.adapt.changes import CopyFile, DeleteFile, MakeLink, RenameFile, WriteFile
from livelift.adapt.linux.packages import answer
from livelift.adapt.linux.trees import Item
from livelift.model.facts import CloudInit
from tests.adapt.linux.trees import changes, debian_new, debian_old, findings, plan_of, written
from tests.machines import change, debian_source, debian_target

SOURCE, TARGET = debian_source(), debian_target()
IDENTITY: dict[str, str | Item] = {
    "etc/hostname": "x\n",
    "etc/machine-id": Item("file", 33),
    "etc/ssh/ssh_host_rsa_key": Item("file", 9, 0o600),
}


def test_the_source_s_identity_is_untouched_by_default() -> None:
    plan = plan_of(SOURCE, TARGET, debian_old(**IDENTITY), debian_new(**IDENTITY))
    assert changes(plan, "identity") == {}


def test_the_target_s_identity() -> None:
    old = debian_old(**IDENTITY, **{"etc/ssh/ssh_host_dsa_key": Item("file"), "var/lib/dbus/machine-id": Item("file")})
    plan = plan_of(
        SOURCE, TARGET, old, debian_new(**IDENTITY), hostname="target", machine_id="target", ssh_host_keys="target"
    )
    found = changes(plan, "identity")
    assert {p for p, c in found.items() if isinstance(c, CopyFile)} == set(IDENTITY)
    assert {p for p, c in found.items() if isinstance(c, DeleteFile)} == {
        "etc/ssh/ssh_host_dsa_key",
        "var/lib/dbus/machine-id",
    }


def test_leftovers() -> None:
    old = debian_old(
        **{
            "var/lib/systemd/random-seed": Item("file"),
            "var/lib/dhcp/dhclient.ens3.leases": Item("file"),
            "etc/mtab": Item("file"),
        }
    )
    found = changes(plan_of(SOURCE, TARGET, old, debian_new(**{"etc/adjtime": "0.0 0 0\n"})), "leftover")
    assert isinstance(found["var/lib/systemd/random-seed"], DeleteFile)
    assert isinstance(found["var/lib/dhcp/dhclient.ens3.leases"], DeleteFile)
    assert found["etc/mtab"] == MakeLink("etc/mtab", "../proc/self/mounts")
    assert isinstance(found["etc/adjtime"], CopyFile)


def test_cloud_init_takes_the_new_instance_for_the_old_one() -> None:
    source = change(SOURCE, cloud_init=CloudInit(present=True, instance="i-old", datasource="DataSourceEc2Local"))
    target = change(TARGET, cloud_init=CloudInit(present=True, instance="i-new", datasource="DataSourceOpenStackLocal"))
    old = debian_old(**{"var/lib/cloud/instances/i-old": Item("dir")})
    plan = plan_of(source, target, old, debian_new())
    found = changes(plan, "cloud-init")
    assert found["var/lib/cloud/instances/i-old"] == RenameFile(
        "var/lib/cloud/instances/i-old", "var/lib/cloud/instances/i-new"
    )
    assert found["var/lib/cloud/instance"] == MakeLink("var/lib/cloud/instance", "/var/lib/cloud/instances/i-new")
    assert written(plan, "var/lib/cloud/data/instance-id") == "i-new\n"
    text = written(plan, "etc/cloud/cloud.cfg.d/99-livelift.cfg")
    assert "datasource_list: [OpenStack, None]" in text and "network: {config: disabled}" in text


def test_cloud_init_outside_of_a_cloud() -> None:
    source = change(SOURCE, cloud_init=CloudInit(present=True, instance="i-old"))
    found = changes(plan_of(source, TARGET, debian_old(), debian_new()), "cloud-init")
    assert list(found) == ["etc/cloud/cloud-init.disabled"]
    assert changes(plan_of(SOURCE, TARGET, debian_old(), debian_new()), "cloud-init") == {}


def test_guest_agents() -> None:
    source = change(SOURCE, packages=(*SOURCE.packages, "open-vm-tools"))
    old = debian_old(**{"usr/lib/systemd/system/open-vm-tools.service": Item("file")})
    plan = plan_of(source, TARGET, old, debian_new())
    assert changes(plan, "guest-agent") == {
        "etc/systemd/system/open-vm-tools.service": MakeLink("etc/systemd/system/open-vm-tools.service", "/dev/null")
    }
    assert "guest-agent-missing" in findings(plan), "the target's qemu-guest-agent"
    same = change(TARGET, hypervisor="vmware")
    assert changes(plan_of(source, same, old, debian_new()), "guest-agent") == {}


def test_debconf_answers() -> None:
    text = "Name: a/b\nTemplate: a/b\nValue: x\nOwners: a\n\n"
    assert answer(text, "a/b", "y", "a") == "Name: a/b\nTemplate: a/b\nValue: y\nOwners: a\nFlags: seen\n\n"
    added = answer(text, "c/d", "1", "c")
    assert added.startswith(text) and "Name: c/d\nTemplate: c/d\nValue: 1\nOwners: c\nFlags: seen\n\n" in added
    long = "Name: a/b\nTemplate: a/b\nOwners: a\nVariables:\n X = 1\n\n"
    assert "Value: y\nOwners: a\nVariables:\n X = 1\nFlags: seen" in answer(long, "a/b", "y", "a")


def test_written_files_are_made_once() -> None:
    plan = plan_of(SOURCE, TARGET, debian_old(), debian_new())
    paths = [e.change.path for e in plan.edits if isinstance(e.change, WriteFile)]
    assert len(paths) == len(set(paths))
