"""Writes docs/reference/exit-codes.md from livelift/errors.py: ``python docs/generate_exit_codes.py``."""

from __future__ import annotations

from pathlib import Path

from livelift import errors

OUT = Path(__file__).resolve().parent / "reference/exit-codes.md"

MEANING = {
    0: "done, nothing to complain about",
    1: "failed; the text says why",
    2: "the command line or the configuration is wrong",
    3: "preflight: something stands in the way (disk too small, overlapping maps, no capture mode, ...)",
    4: "finished, with problems that are listed (gaps that remain, skipped files)",
    5: "verification found a difference",
    6: "refused in this state of the job",
    7: "no agent or no peer answers",
    8: "another process holds the job",
    9: "pairing code, certificate or signature not accepted",
    75: "a passing trouble; the same call may succeed later (EX_TEMPFAIL of sysexits.h)",
    130: "interrupted by Ctrl-C (128 + SIGINT)",
}


def all_errors(root: type[errors.LiveliftError] = errors.LiveliftError) -> list[type[errors.LiveliftError]]:
    """The tree of ``errors.py``, a class before those below it."""
    here = [c for c in root.__subclasses__() if c.__module__ == errors.__name__]
    return [root] + [found for child in here for found in all_errors(child)]


def render() -> str:
    lines = [
        "# Exit codes",
        "",
        "Generated from `livelift/errors.py` by `docs/generate_exit_codes.py`; a test compares the two.",
        "With `--json` an error is an object with the stable `error` below, `text`, `remedy` and `exit`.",
        "",
        "| exit | meaning | `error` |",
        "|---:|---|---|",
    ]
    for code, meaning in MEANING.items():
        names = ", ".join(f"`{error.code}`" for error in all_errors() if error.exit_code == code)
        lines.append(f"| {code} | {meaning} | {names} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    OUT.write_text(render(), encoding="utf-8")
