"""What is frozen and what lives, on the units of real machines."""

from __future__ import annotations

import pytest

from livelift.cutover.choice import KEEP, decide, is_login, kept

DEBIAN = """init.scope
system.slice/cron.service
system.slice/dbus.service
system.slice/docker-4711.scope
system.slice/livelift-web-source.service
system.slice/nginx.service
system.slice/ssh.service
system.slice/system-getty.slice/getty@tty1.service
system.slice/system-postgresql.slice/postgresql@15-main.service
system.slice/systemd-journald.service
system.slice/systemd-logind.service
system.slice/systemd-timesyncd.service
system.slice/systemd-udevd.service
user.slice/user-0.slice/session-3.scope
user.slice/user-0.slice/session-9.scope
user.slice/user-0.slice/user@0.service
user.slice/user-1000.slice/session-4.scope
user.slice/user-1000.slice/user@1000.service""".splitlines()

REDHAT = """init.scope
machine.slice/libpod-1.scope
kubepods.slice/kubepods-besteffort.slice/cri-1.scope
docker/4711
system.slice/NetworkManager.service
system.slice/auditd.service
system.slice/crond.service
system.slice/dbus-broker.service
system.slice/httpd.service
system.slice/polkit.service
system.slice/rsyslog.service
system.slice/sshd.service
system.slice/sssd.service
system.slice/sssd-kcm.service""".splitlines()


def frozen(paths: list[str], own: list[str], ssh: list[str]) -> set[str]:
    return {d.path for d in decide(paths, own, ssh) if d.freeze}


def test_a_debian_server():
    own = ["system.slice/livelift-web-source.service"]
    ssh = ["user.slice/user-0.slice/session-3.scope", "user.slice/user-1000.slice/session-4.scope"]
    assert frozen(DEBIAN, own, ssh) == {
        "system.slice/cron.service",
        "system.slice/docker-4711.scope",
        "system.slice/nginx.service",
        "system.slice/system-postgresql.slice/postgresql@15-main.service",
        "system.slice/systemd-timesyncd.service",
        "user.slice/user-0.slice/session-9.scope",
        "user.slice/user-1000.slice/session-4.scope",
        "user.slice/user-1000.slice/user@1000.service",
    }


def test_a_redhat_server():
    assert frozen(REDHAT, [], []) == {
        "machine.slice/libpod-1.scope",
        "kubepods.slice/kubepods-besteffort.slice/cri-1.scope",
        "docker/4711",
        "system.slice/crond.service",
        "system.slice/httpd.service",
        "system.slice/rsyslog.service",
    }


def test_the_operator_who_asked_is_never_frozen_whoever_he_is():
    session = "user.slice/user-1000.slice/session-4.scope"
    assert session not in frozen(DEBIAN, [session], [])
    assert session not in frozen(DEBIAN, [session + "/deeper"], [])
    assert session in frozen(DEBIAN, [session + "2"], [])


def test_every_decision_has_a_reason_and_no_unit_is_left_out():
    decided = decide(DEBIAN + REDHAT, [], [])
    assert [d.path for d in decided] == DEBIAN + REDHAT
    assert all(d.reason for d in decided)


@pytest.mark.parametrize("pattern", sorted(p for patterns in KEEP.values() for p in patterns))
def test_what_is_kept_is_a_service_its_socket_or_a_mount(pattern):
    assert pattern.endswith((".service", ".socket", ".mount"))
    assert kept(pattern.replace("*", "x"))


def test_logins_that_come_later_are_the_operators():
    assert is_login("user.slice/user-1000.slice/session-12.scope")
    assert is_login("user.slice/user-1000.slice/user@1000.service")
    assert not is_login("system.slice/session-12.scope")
    assert not is_login("system.slice/cron.service")
