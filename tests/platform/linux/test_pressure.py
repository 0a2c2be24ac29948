"""Pressure stall information is parsed; where there is none the answer is None."""

from pathlib import Path

from livelift.platform.linux.pressure import Pressure, parse, pressure

IO = b"some avg10=1.53 avg60=0.87 avg300=0.30 total=81112\nfull avg10=0.75 avg60=0.10 avg300=0.02 total=1\n"


def test_both_lines() -> None:
    assert parse(IO) == Pressure(1.53, 0.75)


def test_cpu_without_full_before_linux_5_13() -> None:
    assert parse(b"some avg10=12.00 avg60=0.00 avg300=0.00 total=0\n") == Pressure(12.0, 0.0)


def test_from_a_directory(tmp_path: Path) -> None:
    (tmp_path / "io").write_bytes(IO)
    assert pressure("io", str(tmp_path)) == Pressure(1.53, 0.75)
    assert pressure("cpu", str(tmp_path)) is None


def test_this_kernel() -> None:
    found = pressure("cpu")
    assert found is None or 0.0 <= found.some <= 100.0
