"""What every test shares: the gates behind the markers, one seed, and a summary in which no skipped test is silent."""

from __future__ import annotations

import os
import random
import shutil
import sys
from collections import Counter

import pytest

CAP_SYS_ADMIN = 21  # linux/capability.h: mounts, loop devices, namespaces, fanotify


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="also run the tests marked long")
    parser.addoption("--vm", action="store_true", help="also run the tests that start virtual machines (make vm-test)")
    parser.addoption("--seed", type=int, default=None, help="replay a run with the seed that it printed")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    # xdist hands config.option to its workers, so all processes of one run share the seed.
    if config.option.seed is None:
        config.option.seed = random.SystemRandom().randrange(1 << 32)
    random.seed(config.option.seed)
    try:
        from hypothesis import core, settings
    except ImportError:
        return
    settings.register_profile("livelift", deadline=None)  # a busy machine is no fault; pytest-timeout ends what hangs
    settings.load_profile("livelift")
    if config.getoption("hypothesis_seed", None) is None:
        core.global_force_seed = config.option.seed


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    value: int = request.config.option.seed
    return value


@pytest.fixture
def rng(seed: int, request: pytest.FixtureRequest) -> random.Random:
    """A generator of the test's own: the same for the same seed, whatever else runs and in whatever order."""
    return random.Random(f"{seed}:{request.node.nodeid}")


def missing_root() -> str:
    """Why tests marked ``root`` cannot run here, or an empty string."""
    if sys.platform == "win32":
        return "needs Linux"
    if os.geteuid() != 0:
        return "needs root"
    with open("/proc/self/status", encoding="ascii") as status:
        effective = next(int(line.split()[1], 16) for line in status if line.startswith("CapEff:"))
    if not effective >> CAP_SYS_ADMIN & 1:
        return "needs root with CAP_SYS_ADMIN (this looks like an unprivileged container)"
    if not os.path.exists("/dev/loop-control"):
        return "needs loop devices (no /dev/loop-control)"
    return ""


def missing_vm() -> str:
    return "" if shutil.which("qemu-system-x86_64") else "needs QEMU (no qemu-system-x86_64)"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    reasons = {
        "root": missing_root(),
        "vm": missing_vm() if config.option.vm else "virtual machines: run with --vm (make vm-test)",
        "long": "" if config.option.long else "long: run with --long",
    }
    for item in items:
        for marker, reason in reasons.items():
            if reason and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


def skip_counts(reports: list[pytest.TestReport]) -> list[tuple[str, int]]:
    """Reasons with how many tests each one skipped, most frequent first."""
    counts: Counter[str] = Counter()
    for report in reports:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        counts[reason.removeprefix("Skipped: ")] += 1
    return counts.most_common()


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for reason, count in skip_counts(terminalreporter.stats.get("skipped", [])):
        terminalreporter.write_line(f"SKIPPED {count} tests: {reason}", yellow=True, bold=True)
    terminalreporter.write_line(f"seed {config.option.seed} (replay with --seed {config.option.seed})")
