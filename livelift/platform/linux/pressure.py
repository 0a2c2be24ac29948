"""Pressure stall information: how much the server already suffers. Documentation/accounting/psi.rst (Linux 4.20)."""

from __future__ import annotations

from typing import NamedTuple


class Pressure(NamedTuple):
    """Percent of the last 10 seconds in which some (or all non-idle) tasks waited for the resource."""

    some: float
    full: float


def pressure(resource: str, directory: str = "/proc/pressure") -> Pressure | None:
    """``resource``: "cpu", "io" or "memory"; None where the kernel has no PSI or it is switched off."""
    try:
        with open(f"{directory}/{resource}", "rb") as file:
            return parse(file.read())
    except OSError:  # absent (no CONFIG_PSI), or EOPNOTSUPP (psi=0)
        return None


def parse(text: bytes) -> Pressure:
    """The avg10 values. "full" is missing for cpu before Linux 5.13 and counts as 0."""
    values = {"some": 0.0, "full": 0.0}
    for line in text.decode("ascii").splitlines():
        kind, _, rest = line.partition(" ")
        for field in rest.split():
            key, _, value = field.partition("=")
            if key == "avg10" and kind in values:
                values[kind] = float(value)
    return Pressure(values["some"], values["full"])
