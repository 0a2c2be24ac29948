"""The target's steps of a server job, on real file systems: a replica of a made-up Debian, a made-up target."""

from __future__ import annotations

import os

import msgspec
import pytest

from livelift.adapt.linux.case import Policy
from livelift.checks.findings import Finding, Level
from livelift.edits import overlay
from livelift.errors import PreflightError, StateError, UsageError
from livelift.model.facts import Service
from livelift.model.job import Map
from livelift.platform.linux import namespaces
from livelift.takeover.server import Standing
from livelift.target import adapting
from livelift.target import server as server_module
from livelift.target.expected import options_for
from livelift.target.handover import parse_times
from livelift.target.server import ServerTarget, parts
from tests.facts.tree import plant
from tests.machines import change, debian_source, debian_target
from tests.target.scene import NEW, OLD, UNIT, Scene, image

pytestmark = pytest.mark.root


SOURCE = {"facts": msgspec.to_builtins(debian_source())}


def with_another_address() -> dict[str, object]:
    """The source's facts, one card with an address that was added by hand."""
    facts = debian_source()
    more = {"ens3": "192.0.2.11/24"}
    cards = [change(c, addresses=(*c.addresses, more[c.name])) if c.name in more else c for c in facts.interfaces]
    return {"facts": msgspec.to_builtins(change(facts, interfaces=tuple(cards)))}


def test_from_facts_to_a_settled_system_and_back(scene: Scene) -> None:
    server = scene.server()
    with pytest.raises(StateError, match="has not sent its facts"):
        server.adapt({})
    assert server.facts(SOURCE)["facts"]["hostname"] == "target"
    assert server.check({})["inhibitors"] == 0
    before = scene.snapshots()
    shown = server.plan({})
    assert "UUID=bbbb-root" in shown["text"] and any(e["id"] == "agent/unit" for e in shown["plan"]["edits"])
    assert server.stale({}) == {"stale": True, "why": ["there is no adaptation"]}

    made = server.adapt({})
    assert made["mode"] == "layers" and made["edits"] > 15 and not made["already"]
    assert scene.built == [("update-initramfs", "-u", "-k", OLD)]
    assert scene.snapshots() == before, "the replica stays pure"
    assert server.stale({}) == {"stale": False, "why": []}
    assert server.adapt({})["already"] and len(scene.built) == 1
    with pytest.raises(StateError, match="before the cut"):
        server.settle({})

    assert not server.install({})["already"] and server.install({})["already"]
    assert scene.calls == ["install / /boot"] and scene.takeover.options.addresses == ("192.0.2.20/24",)
    assert scene.snapshots() == before and server.stale({}) == {"stale": False, "why": []}

    scene.cut = True
    server = scene.server()  # another process: all that it knows is on disk
    assert server.settle({})["entries"] > 10
    assert (scene.replica / "etc/fstab").read_text().startswith("# my disks\nUUID=bbbb-root")
    assert (scene.boot / "grub/core.img").read_text() == "target's"
    assert (scene.boot / f"initrd.img-{OLD}").read_bytes() == image(OLD)
    assert (scene.boot / f"vmlinuz-{NEW}").exists() and (scene.replica / f"usr/lib/modules/{NEW}/modules.dep").exists()
    assert (scene.replica / "etc/systemd/system/livelift-target.service").read_text() == UNIT
    assert os.readlink(scene.replica / "etc/systemd/system/multi-user.target.wants/livelift-target.service")
    assert (scene.boot / "livelift-takeover.img").exists()
    assert server.settle({})["already"] and server.probe({})["inhibitors"] == 0
    for verb in (server.adapt, server.plan, server.install):
        with pytest.raises(StateError, match="is settled"):
            verb({})
    assert server.unsettle({})["entries"] > 10
    assert scene.snapshots() == before
    assert server.unsettle({}) == {"entries": 0}
    assert server.drop({}) == {"dropped": True} and scene.calls[-1] == "uninstall"
    assert not (scene.replica.parent / "overlay").exists()
    assert scene.snapshots() == before


def test_another_agent_file_makes_it_stale(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The take-over that was installed is that file's too."""
    server = scene.server()
    server.facts(SOURCE)
    server.adapt({})
    server.install({})
    monkeypatch.setattr(adapting, "code", lambda: "1.0 other")
    assert server.stale({})["why"] == ["another agent file made the adaptation"]
    assert not server.adapt({})["already"] and not server.install({})["already"]
    assert not server.stale({})["stale"]


def test_what_the_source_changes_makes_it_stale(scene: Scene) -> None:
    server = scene.server()
    server.facts(SOURCE)
    server.adapt({})
    same = (scene.boot / f"initrd.img-{OLD}").read_bytes()
    (scene.boot / f"initrd.img-{OLD}").write_bytes(same)  # replay may write the same once more
    (scene.replica / "srv").mkdir()
    (scene.replica / "srv/data").write_text("what a service writes")
    assert not server.stale({})["stale"]
    with (scene.replica / "etc/fstab").open("a") as file:
        file.write("tmpfs /scratch tmpfs defaults 0 0\n")
    assert server.stale({}) == {"stale": True, "why": ["edit storage/etc/fstab"]}
    scene.cut = True
    with pytest.raises(StateError, match="edit storage/etc/fstab"):
        server.settle({})
    scene.cut = False
    assert not server.adapt({})["already"]
    assert not server.stale({})["stale"]
    (scene.boot / f"initrd.img-{OLD}").write_bytes(b"built again by an upgrade")
    assert server.stale({})["why"] == [f"/boot/initrd.img-{OLD}"]
    plant(scene.boot, {"/vmlinuz-6.1.0-51-amd64": "kernel"})
    plant(scene.replica, {"/usr/lib/modules/6.1.0-51-amd64/modules.dep": "", "/etc/netplan/x.yaml": "network: {}\n"})
    why = server.stale({})["why"]
    assert "edit initramfs/build/6.1.0-51-amd64" in why and "edit network/etc/netplan/x.yaml" in why


def test_policy_and_rules_are_kept(scene: Scene) -> None:
    server = scene.server()
    server.facts(SOURCE)
    assert server.adapt({}) and server.addresses({}) == {"moves": []}
    with pytest.raises(UsageError, match="map file"):
        server.plan({"policy": "network = 'nonsense'"})
    shown = server.plan({"policy": 'network = "take-source"', "rules": 'skip = ["agent/*"]'})
    assert "ens3 becomes enp0s3" in shown["text"] and shown["plan"]["skipped"]
    assert server.stale({})["stale"], "the plan is another one now"
    scene.server().adapt({})
    assert scene.server().addresses({}) == {"moves": [{"address": "192.0.2.10/24", "interface": "ens3"}]}
    assert not scene.server().stale({})["stale"]
    scene.server().facts(with_another_address())
    assert scene.server().stale({})["why"] == ["the addresses that move"]
    scene.server().adapt({})
    assert len(scene.server().addresses({})["moves"]) == 2
    scene.cut = True
    server = scene.server()
    server.settle({})
    assert "iface enp0s3 inet static\n address 192.0.2.10/24" in (scene.replica / "etc/network/interfaces").read_text()


def test_an_inhibitor_of_the_probe_is_told_before_and_can_be_ignored(scene: Scene) -> None:
    server = scene.server()
    server.facts(SOURCE)
    (scene.replica / "sbin/init").unlink()
    with pytest.raises(PreflightError, match="probe-init"):
        server.adapt({})
    assert server.stale({})["why"] == ["there is no adaptation"]
    made = server.adapt({"ignore": ["probe-init"]})
    assert [f["level"] for f in made["findings"] if f["id"] == "probe-init"] == ["warning"]


def test_what_fails_behind_the_fence_is_taken_back(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    server = scene.server()
    server.facts(SOURCE)
    server.adapt({})
    before = scene.snapshots()
    scene.cut = True
    (scene.replica / "sbin/init").unlink()  # nothing that the plan looks at
    gone = scene.snapshots()
    with pytest.raises(PreflightError, match="probe-init"):
        server.settle({})
    assert scene.snapshots() == gone and not server.status()["settled"]
    (scene.replica / "sbin/init").symlink_to("../usr/lib/systemd/systemd")
    assert server.settle({})["entries"]
    server.unsettle({})
    for snap in (before, scene.snapshots()):
        snap[0].pop("sbin")  # its time
    assert scene.snapshots()[1] == before[1]


def test_without_overlayfs_it_is_made_behind_the_fence(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: bytes, target: bytes, fstype: bytes = b"", flags: int = 0, data: bytes = b"") -> None:
        if fstype == b"overlay":
            raise OSError(19, "No such device")
        real(source, target, fstype, flags, data)

    real = namespaces.mount
    monkeypatch.setattr(namespaces, "mount", refuse)
    server = scene.server()
    server.facts(SOURCE)
    assert "adapt-in-place" in [f["id"] for f in server.check({})["findings"]]
    before = scene.snapshots()
    made = server.adapt({})
    assert made["mode"] == "in-place" and not scene.built and server.status()["mode"] == "in-place"
    assert "adapt-in-place" in [f["id"] for f in made["findings"]]
    assert not server.stale({})["stale"] and scene.snapshots() == before
    scene.cut = True
    assert server.settle({})["entries"] > 15 and scene.built
    assert (scene.replica / "etc/fstab").read_text().startswith("# my disks\nUUID=bbbb-root")
    server.unsettle({})
    assert scene.snapshots() == before
    scene.cut = False
    server.install({})
    assert scene.calls == ["install / /boot dry"] and scene.snapshots() == before
    scene.cut = True
    server.settle({})
    assert scene.calls[1:] == ["install / /boot"] and (scene.boot / "livelift-takeover.img").exists()
    server.unsettle({})
    assert scene.calls[2:] == ["uninstall"]


def test_no_room_for_the_adaptation(scene: Scene) -> None:
    server = scene.server()
    server.facts(SOURCE)
    filler = scene.boot.parent / "filler"
    try:
        with pytest.raises(PreflightError, match="adapt-room"):
            st = os.statvfs(scene.boot)
            with filler.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, st.f_bavail * st.f_frsize - 4096)
            server.adapt({})
    finally:
        filler.unlink()


def test_a_damaged_memory_is_told(scene: Scene) -> None:
    (scene.state / "stage.json").write_text("{")
    with pytest.raises(Exception, match="delete it"):
        scene.server()


def test_the_parts_are_mounted_outer_first() -> None:
    lines = [Map(path, path.rstrip(b"/") + b"/.livelift/new") for path in (b"/var/lib", b"/", b"/var")]
    assert [part.mountpoint for part in parts(lines)] == ["/", "/var", "/var/lib"]
    assert parts(lines)[0] == overlay.Part("/", "/.livelift")
    with pytest.raises(UsageError, match="without a line for /"):
        ServerTarget("/nowhere", lines[:1], lambda: False)
    assert server_module.facts_of().running_kernel == os.uname().release


# the take-over, as the source drives it


@pytest.fixture
def settled(scene: Scene) -> ServerTarget:
    server = scene.server()
    server.facts(SOURCE)
    server.adapt({})
    server.install({})
    scene.cut = True
    server.settle({})
    scene.calls.clear()
    return server


A, B = {"attempt": "aa"}, {"attempt": "bb"}


def stands(server: ServerTarget, attempt: dict[str, str] = A) -> tuple[str, str]:
    found = server.handover.standing(attempt)
    return found["system"], found["phase"]


def test_arming_leads_nowhere_and_going_does(scene: Scene, settled: ServerTarget) -> None:
    server = settled
    assert stands(server) == ("old", "idle")
    with pytest.raises(StateError, match="was not armed"):
        server.handover.go(A)
    assert server.handover.arm(A) == {"armed": True}
    assert scene.calls == ["check"] and stands(server) == ("old", "armed") and stands(server, B) == ("old", "idle")
    assert scene.takeover.found.phase == "installed", "a reboot now would start the old system"
    server = scene.server()
    assert stands(server) == ("old", "armed")
    assert server.handover.go(A) == {"going": True} and scene.calls[-1] == "arm"
    assert server.handover.after is not None, "it reboots when the answer is sent"
    assert stands(server) == ("old", "going") and server.handover.go(A) == {"going": True}

    scene.server().handover.resume()  # the agent died before it rebooted
    assert scene.calls[-1] == "reboot"
    scene.takeover.found = Standing("new", "trying")
    server = scene.server()
    server.handover.resume()
    assert scene.calls.count("reboot") == 1
    assert stands(server) == ("new", "booted")
    with pytest.raises(StateError, match="new system stands already"):
        server.handover.go(A)
    for refused in (server.undo, lambda: server.unsettle({}), lambda: server.handover.commit({})):
        with pytest.raises(StateError, match="the new system stands"):
            refused()
    scene.takeover.found = Standing("new", "confirmed", confirmed=True)
    assert server.handover.standing(A)["confirmed"]
    scene.takeover.refuses = True
    with pytest.raises(StateError, match="would not start it"):
        server.handover.commit({})
    assert not scene.server().committed, "what was refused can be rolled back"
    told = server.handover.commit({"free": True, "ignore": ["probe-modules"]})
    assert not told["already"] and scene.calls[-1] == "commit True"
    assert [(f["id"], f["level"]) for f in told["findings"]] == [("probe-modules", "warning")], "it stays in the report"
    told = scene.server().handover.standing(A)
    assert (told["system"], told["committed"], told["confirmed"]) == ("new", True, True)
    assert scene.server().handover.commit({})["already"] and scene.server().committed
    with pytest.raises(StateError, match="committed"):
        scene.server().handover.back(A)


def test_the_way_back(scene: Scene, settled: ServerTarget) -> None:
    settled.handover.arm(A)
    settled.handover.go(A)
    scene.takeover.found = Standing("new", "trying")
    assert settled.handover.back(A) == {"going": True, "system": "new"} and stands(settled) == ("new", "going back")
    settled.handover.back(A)
    assert scene.calls.count("back") == 1
    scene.takeover.found = Standing("old", "returned", reason="asked for")
    server = scene.server()
    assert server.handover.standing(A)["reason"] == "asked for" and stands(server) == ("old", "returned")
    assert server.handover.back(A) == {"going": False, "system": "old"}
    (scene.replica / "etc/fstab").unlink()
    (scene.replica / "etc/fstab").write_text("changed by the new system")
    server.handover.disarm({})
    server.undo()
    assert scene.calls[-1] == "disarm" and stands(server) == ("old", "idle") and not server.status()["settled"]
    assert (scene.replica / "etc/fstab").read_text().startswith("# my disks\nUUID=aaaa-root")
    assert server.stale({})["why"] == ["there is no adaptation"] and not server.status()["installed"]
    server.undo()


def test_a_boot_that_missed_the_stage_is_the_old_system_for_good(scene: Scene, settled: ServerTarget) -> None:
    settled.handover.arm(A)
    settled.handover.go(A)
    scene.takeover.found = Standing("old", "armed", missed=True)
    server = scene.server()
    server.handover.resume()
    assert "reboot" not in scene.calls
    told = server.handover.standing(A)
    assert told["phase"] == "returned" and "without the take-over" in told["reason"]
    assert scene.takeover.found.phase == "installed", "and no later boot takes over"


def test_idle_is_a_promise(scene: Scene, settled: ServerTarget) -> None:
    """Whatever was left armed by whomever: who is told idle may serve."""
    scene.takeover.found = Standing("old", "armed")
    assert stands(settled, B) == ("old", "idle") and scene.takeover.found.phase == "installed"
    settled.handover.arm(A)
    scene.takeover.found = Standing("old", "armed")  # the agent died in `go`
    assert stands(scene.server()) == ("old", "armed") and scene.takeover.found.phase == "installed"


def test_what_cannot_be_armed_does_not_go(scene: Scene, settled: ServerTarget) -> None:
    scene.takeover.refuses = True
    with pytest.raises(StateError, match="lead back"):
        settled.handover.arm(A)
    assert stands(settled) == ("old", "idle")
    scene.takeover.refuses = False
    settled.handover.arm(A)
    scene.takeover.refuses = True
    with pytest.raises(OSError, match="Read-only"):
        settled.handover.go(A)
    assert scene.calls[-1] == "disarm" and settled.handover.after is None
    assert stands(scene.server()) == ("old", "idle")


def test_an_inhibitor_of_the_take_over(scene: Scene) -> None:
    server = scene.server()
    server.facts(SOURCE)
    with pytest.raises(StateError, match="nothing has been adapted"):
        server.install({})
    server.adapt({})
    scene.takeover.wrong = [Finding("takeover-menu", Level.INHIBITOR, "no menu", "make one")]
    with pytest.raises(PreflightError, match="takeover-menu"):
        server.install({})
    assert not server.status()["installed"]
    scene.takeover.wrong = []
    assert not server.install({})["already"]
    server.adapt({"again": True})
    assert not server.status()["installed"] and not server.install({})["already"], "the staged part was made anew"


def test_the_parts_of_a_boot() -> None:
    text = """FirmwareTimestampMonotonic=9000000
LoaderTimestampMonotonic=4000000
KernelTimestampMonotonic=0
InitRDTimestampMonotonic=1500000
UserspaceTimestampMonotonic=4000000
FinishTimestampMonotonic=12250000
"""
    found = parse_times(text)
    assert found == {"firmware": 5.0, "loader": 4.0, "kernel": 1.5, "initramfs": 2.5, "userspace": 8.25}
    assert parse_times("KernelTimestampMonotonic=0\nUserspaceTimestampMonotonic=2000000\n") == {"kernel": 2.0}


def test_what_is_expected_of_the_new_system() -> None:
    source = change(
        debian_source(),
        services=(
            Service(unit="nginx.service", state="running", enabled=True, wanted=True),
            Service(unit="polkit.service", state="running"),
            Service(unit="open-vm-tools.service", state="running", wanted=True),
            Service(unit="smartd.service", state="running", wanted=True),
            Service(unit="livelift-web-source.service", state="running", wanted=True),
            Service(unit="getty@tty1.service", state="running", wanted=True),
            Service(unit="broken.service", state="failed", wanted=True),
        ),
    )
    policy = Policy(network="take-source", not_expected=("smartd.service",))
    found = options_for(source, debian_target(), policy, "/view")
    assert (found.services, found.failed, found.addresses) == (
        ("nginx.service",), ("broken.service",), ("192.0.2.10/24",),
    )  # fmt: skip
    assert found.command_line.startswith("root=UUID=bbbb-root") and found.staged == "/view"
