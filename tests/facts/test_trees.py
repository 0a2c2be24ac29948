"""What the rules look at is read, secrets are not."""

from __future__ import annotations

from pathlib import Path

from livelift.adapt.linux.trees import Item
from livelift.facts.host import Host
from livelift.facts.trees import read_tree
from tests.facts.tree import plant


def test_content_lists_and_whole_directories(tmp_path: Path) -> None:
    plant(
        tmp_path,
        {
            "/lib": "-> usr/lib",
            "/usr/lib/modules/6.1/modules.dep": "kernel/a.ko:\n",
            "/usr/lib/modules/6.1/kernel/a.ko": "1234",
            "/usr/lib/firmware/x/y.bin": "12",
            "/usr/lib/firmware/link": "-> x/y.bin",
            "/boot/vmlinuz-6.1": "12345",
            "/boot/grub/grub.cfg": "menu\n",
            "/boot/grub/i386-pc/a.mod": "1",
            "/etc/fstab": b"\xff\n",
            "/etc/mtab": "-> /proc/self/mounts",
            "/etc/systemd/system/masked.service": "-> /dev/null",
            "/etc/unrelated": "x",
            "/home/user/file": "x",
        },
    )
    found = read_tree(Host(str(tmp_path)))
    assert found.lib == "usr/lib"
    assert found.items["usr/lib/modules/6.1"] == Item("tree", 17, 0o755, files=2)
    assert found.text("usr/lib/modules/6.1/modules.dep") == "kernel/a.ko:\n"
    assert set(found.below("usr/lib/firmware")) == {
        "usr/lib/firmware/x",
        "usr/lib/firmware/x/y.bin",
        "usr/lib/firmware/link",
    }
    assert found.items["usr/lib/firmware/link"] == Item("link", text="x/y.bin")
    assert found.items["boot/vmlinuz-6.1"].size == 5
    assert found.items["boot/grub"].kind == "tree" and found.items["boot/grub"].files == 2
    assert found.text("boot/grub/grub.cfg") == "menu\n"
    assert found.items["etc/mtab"] == Item("link", text="/proc/self/mounts")
    assert found.items["etc/systemd/system/masked.service"].text == "/dev/null"
    assert found.contents["etc/fstab"] == b"\xff\n"
    assert found.lines("etc/fstab") == ("\\xff",)
    assert not found.has("etc/unrelated") and not any(p.startswith("home") for p in found.items)


def test_secrets_are_listed_without_their_content(tmp_path: Path) -> None:
    files = {
        "/etc/NetworkManager/system-connections/wifi": "[wifi-security]\npsk=geheim\n",
        "/etc/NetworkManager/system-connections/lan": "[connection]\ninterface-name=ens3\n",
        "/etc/netplan/a.yaml": "  password: geheim\n",
        "/boot/grub/grub.cfg": "password_pbkdf2 root grub.pbkdf2.geheim\n",
        "/etc/ssh/ssh_host_rsa_key": "geheim",
        "/etc/keys/root": "geheim",
        "/etc/crypttab": "secret_data UUID=1 none luks\n",
    }
    plant(tmp_path, files)  # type: ignore[arg-type]
    found = read_tree(Host(str(tmp_path)))
    assert {f"/{path}" for path in found.items} >= set(files)
    assert b"geheim" not in b"".join(found.contents.values())
    assert set(found.contents) == {"etc/NetworkManager/system-connections/lan", "etc/crypttab"}


def test_nothing_outside_of_the_root_is_read(tmp_path: Path) -> None:
    (tmp_path / "fstab").write_text("outside")
    plant(tmp_path / "root", {"/etc/fstab": f"-> {tmp_path}/fstab", "/boot/loader/entries": f"-> {tmp_path}"})
    found = read_tree(Host(str(tmp_path / "root")))
    assert found.contents == {}
