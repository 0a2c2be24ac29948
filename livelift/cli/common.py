"""What the verbs share: arguments, output, how an error becomes an exit code."""

from __future__ import annotations

import argparse
import gc
import json
import logging
import ntpath
import os
import posixpath
import re
import signal
import sys
from collections.abc import Callable
from typing import Any

from livelift.errors import LiveliftError, UsageError
from livelift.model.job import Map

log = logging.getLogger(__name__)

EXIT_CODES = """exit codes:
  0 ok   1 failed   2 usage   3 preflight inhibitors   4 finished with listed problems   5 verification mismatch
  6 refused in this state   7 agent or peer not reachable   8 locked   9 not trusted   75 try again later   130
  interrupted"""


def add_verb(
    verbs: Any,
    name: str,
    summary: str,
    text: str,
    run: Callable[[argparse.Namespace], int],
) -> argparse.ArgumentParser:
    """A subcommand with its own help page."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        name, help=summary, description=text, epilog=EXIT_CODES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.set_defaults(run=run)
    parser.add_argument("--json", action="store_true", help="one JSON object (or JSON lines of progress) on stdout")
    return parser


def add_state(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--state", metavar="DIR", default=default, help=f"state directory of the agent (default {default})"
    )


def add_job(parser: argparse.ArgumentParser, side: str = "source") -> None:
    """For verbs that the controller of a migration passes on over ssh (`livelift.cli.over_ssh`)."""
    parser.add_argument(
        "job_here", nargs="?", metavar="JOB", help='a job of "livelift migrate": on its machines, over ssh'
    )
    parser.add_argument("--job", metavar="NAME", help="the same")
    parser.add_argument(
        "--side", choices=("source", "target"), default=side, help=f"with --job: which agent (default {side})"
    )


def parse_maps(lines: list[str], exclude: list[str], include: list[str]) -> tuple[Map, ...]:
    """SOURCE=TARGET lines; "==" stands for "=" in a path. UsageError with what is wrong."""
    maps = []
    for line in lines:
        source, separator, target = line.replace("==", "\0").partition("=")
        source, target = source.replace("\0", "="), target.replace("\0", "=")
        if not separator or not (source.startswith("/") or _is_windows(source)) or not target.startswith("/"):
            raise UsageError(
                f"--map {line}: not of the form /SOURCE=/TARGET",
                remedy="give two absolute paths, e.g. --map /srv=/srv (write == for = in a path)",
            )
        maps.append(
            Map(
                os.fsencode(_normal(source)),
                os.fsencode(_normal(target)),
                tuple(map(os.fsencode, exclude)),
                tuple(map(os.fsencode, include)),
            )
        )
    return tuple(maps)


def _normal(path: str) -> str:
    """normpath(3p) keeps two leading slashes, which POSIX lets mean something else; on Linux they are one."""
    if _is_windows(path):
        return path[0].upper() + ntpath.normpath(path)[1:]
    return "/" + posixpath.normpath(path).lstrip("/")


def _is_windows(path: str) -> bool:
    """Whether it is an absolute path with a drive letter: a source may have one, wherever this runs."""
    return re.match(r"[A-Za-z]:[\\/]", path) is not None


_HOST_PORT = re.compile(r"(?:\[([^]]+)]|([^:\[\]]*))(?::(\d{1,5}))?")


def host_port(text: str, default_port: int) -> tuple[str, int]:
    """HOST, HOST:PORT, :PORT, [IPv6] or [IPv6]:PORT. UsageError for anything else."""
    match = _HOST_PORT.fullmatch(text)
    port = int(match[3]) if match and match[3] else default_port
    if match is None or not text or port > 65535:
        raise UsageError(f"{text!r} is not HOST:PORT", remedy="e.g. 192.0.2.7:4777 or [2001:db8::7]:4777")
    return match[1] or match[2], port


def size(text: str) -> int:
    """Bytes from 64M and the like (an argparse type); binary units."""
    match = re.fullmatch(r"(\d+)([KMGT]?)(?:i?B)?", text.strip(), re.I)
    if match is None or not int(match[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 64M or 2G")
    return int(match[1]) << {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}[match[2].upper()]


def print_json(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def human(size: float) -> str:
    """Bytes in words, binary units as operators read them."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def set_up_logging(verbose: bool) -> None:
    """stderr; under systemd (JOURNAL_STREAM) with the <N> level prefix of sd-daemon(3)."""

    class Prefix(logging.Formatter):
        LEVELS = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}  # noqa: RUF012

        def format(self, record: logging.LogRecord) -> str:
            return f"<{self.LEVELS.get(record.levelno, 6)}>" + super().format(record)

    handler = logging.StreamHandler(sys.stderr)
    journal = "JOURNAL_STREAM" in os.environ
    handler.setFormatter(
        Prefix("%(threadName)s: %(message)s")
        if journal
        else logging.Formatter("%(asctime)s %(levelname).1s %(threadName)s: %(message)s")
    )
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler])


def raise_limits() -> None:
    """Directories are held open by the hundred; the soft limit is 1024 by default (getrlimit(2)).

    On Windows 8192 descriptors are there from the start; what an administrator may do has to be switched on instead."""
    if sys.platform == "win32":
        from livelift.platform.windows.privileges import NEEDED, enable

        for name in enable(*NEEDED):
            log.warning("without %s the agent cannot %s; run it as an administrator", name, NEEDED[name])
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def tune_interpreter() -> None:
    """Millions of short-lived records, none of them in cycles: the cyclic collector looks rarely, and threads change
    less often while they compute (every 10 ms)."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    sys.setswitchinterval(0.01)


def on_signals(stop: Callable[[], None]) -> None:
    """SIGTERM and SIGINT end an agent in order."""

    def handler(number: int, frame: object) -> None:
        stop()

    signal.signal(signal.SIGTERM, handler)
    signal.signal(signal.SIGINT, handler)


def report_error(error: LiveliftError, as_json: bool) -> int:
    if as_json:
        print_json({"error": error.code, "text": str(error), "remedy": error.remedy, "exit": error.exit_code})
    print(f"livelift: {error}", file=sys.stderr)
    return error.exit_code
