"""What the verbs take and refuse: mappings, addresses, sizes."""

from __future__ import annotations

import argparse
import json

import pytest

from livelift.cli.common import host_port, human, parse_maps, report_error, size
from livelift.control.client import RemoteFailure
from livelift.errors import StateError, UsageError


@pytest.mark.parametrize(
    ("line", "source", "target"),
    [
        ("/srv=/srv", b"/srv", b"/srv"),
        ("/srv/=/data//srv/", b"/srv", b"/data/srv"),
        ("//srv=/x/../y", b"/srv", b"/y"),
        ("/=/replica", b"/", b"/replica"),
        ("/a==b=/c==d", b"/a=b", b"/c=d"),
        ("/caf\udce9=/x", b"/caf\xe9", b"/x"),
    ],
)
def test_maps(line: str, source: bytes, target: bytes) -> None:
    (found,) = parse_maps([line], ["*.tmp"], ["keep.tmp"])
    assert (found.source, found.target) == (source, target)
    assert (found.exclude, found.include) == ((b"*.tmp",), (b"keep.tmp",))


@pytest.mark.parametrize("line", ["", "/srv", "srv=/srv", "/srv=srv", "=/srv", "/srv=", "/a==b"])
def test_no_maps(line: str) -> None:
    with pytest.raises(UsageError, match="/SOURCE=/TARGET") as caught:
        parse_maps([line], [], [])
    assert "absolute" in caught.value.remedy


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("new-server", "new-server", 4777),
        ("192.0.2.7:1", "192.0.2.7", 1),
        (":4778", "", 4778),
        ("[2001:db8::7]:65535", "2001:db8::7", 65535),
        ("[::]", "::", 4777),
    ],
)
def test_addresses(text: str, host: str, port: int) -> None:
    assert host_port(text, 4777) == (host, port)


@pytest.mark.parametrize(
    "text", ["", "host:", "host:port", "host:65536", "host:-1", "::1", "2001:db8::7", "a:1:2", "[::1"]
)
def test_no_addresses(text: str) -> None:
    with pytest.raises(UsageError, match="is not HOST:PORT"):
        host_port(text, 4777)


@pytest.mark.parametrize(
    ("text", "found"),
    [("1", 1), ("64M", 64 << 20), ("2g", 2 << 30), ("1T", 1 << 40), ("8KiB", 8192), (" 5M ", 5 << 20)],
)
def test_sizes(text: str, found: int) -> None:
    assert size(text) == found


@pytest.mark.parametrize("text", ["", "0", "0G", "-1M", "1.5G", "M", "1X", "1MM", "ten"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="not a size"):
        size(text)


def test_human() -> None:
    assert [human(n) for n in (0, 1023, 1024, 5 << 20, 3 << 40)] == ["0 B", "1023 B", "1.0 KiB", "5.0 MiB", "3.0 TiB"]


def test_an_error_as_json_is_one_object_and_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert report_error(StateError("not now", remedy="later"), True) == 6
    out, err = capsys.readouterr()
    text = str(StateError("not now", remedy="later"))
    assert json.loads(out) == {"error": "state", "text": text, "remedy": "later", "exit": 6}
    assert "not now" in err and err.count("later") == 1


def test_an_agents_error_keeps_code_and_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    text = str(StateError("not now", remedy="later"))
    assert report_error(RemoteFailure(text, "state", 6, {"remedy": "later"}), True) == 6
    out, err = capsys.readouterr()
    assert json.loads(out)["remedy"] == "later" and json.loads(out)["error"] == "state"
    assert err.count("later") == 1, "not said twice"
