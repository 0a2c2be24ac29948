"""The key that opens every machine is one, also when two images are made at once in an empty cache."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.vm import places


@pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="needs the Debian package openssh-client")
def test_one_key_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIVELIFT_VM_CACHE", str(tmp_path / "cache"))
    with ThreadPoolExecutor(8) as pool:
        made = set(pool.map(lambda _: places.key().read_bytes(), range(8)))
    assert len(made) == 1
    assert places.key().with_suffix(".pub").read_text().startswith("ssh-ed25519 ")
