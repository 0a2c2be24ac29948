"""The verb that changes a staged tree: forth, again after the source has changed, and back."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from livelift.cli.main import main
from tests.adapt.linux.trees import debian_new, debian_old
from tests.edits.snapshot import snapshot
from tests.facts.tree import plant
from tests.machines import change, debian_source, debian_target


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """The source's kernel is not built again here: that takes a whole system, which the virtual machines have."""
    found = ["--state", str(tmp_path / "state")]
    for side, facts, files in (
        ("source", change(debian_source(), kernels=()), debian_old()),
        ("target", debian_target(), debian_new()),
    ):
        (tmp_path / f"{side}.json").write_bytes(msgspec.json.encode(facts))
        texts = {
            p: c if isinstance(c, str) else "x" * c.size
            for p, c in files.items()
            if isinstance(c, str) or c.kind != "tree"
        }
        plant(
            tmp_path / side,
            {**texts, "/lib": "-> usr/lib", "/boot/grub/core.img": side, "/usr/lib/modules/6.1.0-50-amd64/a.ko": "x"},
        )
        found += [f"--{side}-facts", str(tmp_path / f"{side}.json"), f"--{side}-root", str(tmp_path / side)]
    (tmp_path / "source/usr/lib/modules/6.1.0-50-amd64/a.ko").unlink()
    (tmp_path / "source/usr/lib/modules/6.1.0-50-amd64").rmdir()
    return found


def test_forth_again_and_back(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "source"
    before = snapshot(root)
    assert main(["adapt", *words, "--dry-run"]) == 0
    assert "UUID=bbbb-root" in capsys.readouterr().out and snapshot(root) == before
    assert main(["adapt", *words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["edits"] > 8
    assert "UUID=bbbb-root" in (root / "etc/fstab").read_text()
    assert (root / "boot/grub/core.img").read_text() == "target"
    assert (root / "usr/lib/modules/6.1.0-50-amd64/a.ko").exists()

    kept = next(p for p in (root / ".livelift-kept").iterdir() if p.read_bytes().startswith(b"# my disks"))
    kept.write_text(kept.read_text() + "tmpfs /new tmpfs defaults 0 0\n")  # as replay does when the source changes it
    assert main(["adapt", *words]) == 0
    assert "tmpfs /new" in (root / "etc/fstab").read_text()
    assert "UUID=bbbb-root" in (root / "etc/fstab").read_text()

    assert main(["adapt", *words, "--undo"]) == 0
    assert (root / "etc/fstab").read_text().startswith("# my disks\nUUID=aaaa-root")
    assert {p for p in snapshot(root)} == {p for p in before}


def test_an_inhibitor_stops_before_the_first_edit(words: list[str], tmp_path: Path) -> None:
    before = snapshot(tmp_path / "source")
    (tmp_path / "target/etc/network/interfaces").unlink()
    assert main(["adapt", *words]) == 3
    assert snapshot(tmp_path / "source") == before
