"""Trees that look like a server's root, and programs that answer from a table."""

from __future__ import annotations

from pathlib import Path

Answers = dict[str, str]


def plant(root: Path, files: dict[str, str | bytes | None]) -> Path:
    """``files``: path to content; "-> x" is a symlink to x, None a directory."""
    for path, content in files.items():
        place = root / path.lstrip("/")
        if content is None:
            place.mkdir(parents=True, exist_ok=True)
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            place.write_bytes(content)
        elif content.startswith("-> "):
            place.symlink_to(content[3:])
        else:
            place.write_text(content)
    return root


def programs(answers: Answers):  # type: ignore[no-untyped-def]
    """``answers``: the beginning of a command line to its output; what is not there is missing on this machine."""

    def run(command: tuple[str, ...]) -> str | None:
        line = " ".join(command)
        return next((text for start, text in answers.items() if line.startswith(start)), None)

    return run
