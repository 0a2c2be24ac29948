"""bpf(2) by way of libbpf 1.x (libbpf.so.1, loaded when it is asked for): objects, programs, maps, the ring buffer.

Nothing is pinned: programs, links and maps belong to file descriptors of this process, so the kernel takes all of it
down when the process ends, however it ends.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import struct
from collections import deque
from typing import Any, Final

from livelift.errors import PreflightError

POINTER = ctypes.c_void_p
_PRINT = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, POINTER, POINTER)
_SAMPLE = ctypes.CFUNCTYPE(ctypes.c_int, POINTER, POINTER, ctypes.c_size_t)
_STOP: Final = -errno.ECANCELED

_FUNCTION: Final = 12  # BTF_KIND_FUNC
_INFO: Final = 232  # bytes of struct bpf_prog_info, linux/bpf.h of 6.1
_MISSES: Final = 208  # where its recursion_misses are
BTF: Final = "/sys/kernel/btf/vmlinux"

_FUNCTIONS: Final[dict[str, tuple[type | None, tuple[type, ...]]]] = {
    "libbpf_set_print": (POINTER, (POINTER,)),
    "bpf_object__open_mem": (POINTER, (ctypes.c_char_p, ctypes.c_size_t, POINTER)),
    "bpf_object__load": (ctypes.c_int, (POINTER,)),
    "bpf_object__close": (None, (POINTER,)),
    "bpf_object__find_map_by_name": (POINTER, (POINTER, ctypes.c_char_p)),
    "bpf_object__find_program_by_name": (POINTER, (POINTER, ctypes.c_char_p)),
    "bpf_map__fd": (ctypes.c_int, (POINTER,)),
    "bpf_map__set_max_entries": (ctypes.c_int, (POINTER, ctypes.c_uint32)),
    "bpf_program__set_autoload": (ctypes.c_int, (POINTER, ctypes.c_bool)),
    "bpf_program__attach": (POINTER, (POINTER,)),
    "bpf_program__fd": (ctypes.c_int, (POINTER,)),
    "bpf_obj_get_info_by_fd": (ctypes.c_int, (ctypes.c_int, POINTER, POINTER)),
    "bpf_link__destroy": (ctypes.c_int, (POINTER,)),
    "bpf_map_update_elem": (ctypes.c_int, (ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_uint64)),
    "bpf_map_lookup_elem": (ctypes.c_int, (ctypes.c_int, ctypes.c_char_p, POINTER)),
    "bpf_map_delete_elem": (ctypes.c_int, (ctypes.c_int, ctypes.c_char_p)),
    "bpf_map_get_next_key": (ctypes.c_int, (ctypes.c_int, ctypes.c_char_p, POINTER)),
    "libbpf_num_possible_cpus": (ctypes.c_int, ()),
    "btf__load_vmlinux_btf": (POINTER, ()),
    "btf__find_by_name_kind": (ctypes.c_int, (POINTER, ctypes.c_char_p, ctypes.c_uint32)),
    "btf__type_by_id": (POINTER, (POINTER, ctypes.c_uint32)),
    "btf__free": (None, (POINTER,)),
    "ring_buffer__new": (POINTER, (ctypes.c_int, _SAMPLE, POINTER, POINTER)),
    "ring_buffer__consume": (ctypes.c_int, (POINTER,)),
    "ring_buffer__epoll_fd": (ctypes.c_int, (POINTER,)),
    "ring_buffer__free": (None, (POINTER,)),
}


class _Library:
    """libbpf.so.1 with its functions typed. ``said``: its last messages, the verifier's among them."""

    def __init__(self) -> None:
        try:
            self._handle = ctypes.CDLL("libbpf.so.1", use_errno=True)
        except OSError as error:
            raise PreflightError(
                "libbpf.so.1 is not installed",
                remedy="install libbpf1 (Debian 12 and later), libbpf (RHEL 9 and later)",
            ) from error
        self.said: deque[str] = deque(maxlen=12)
        self._format = ctypes.CDLL(None).vsnprintf
        self._format.argtypes = (ctypes.c_char_p, ctypes.c_size_t, POINTER, POINTER)
        self._print = _PRINT(self._listen)
        for name, (result, arguments) in _FUNCTIONS.items():
            function = getattr(self._handle, name)
            function.restype, function.argtypes = result, arguments
        # Keeps the interpreter while it runs, which is not long (`Ring.take`): each record is a call back into it, and
        # beside a thread that computes each of them would wait for its turn anew.
        self.consume = ctypes.PyDLL("libbpf.so.1").ring_buffer__consume
        self.consume.restype, self.consume.argtypes = _FUNCTIONS["ring_buffer__consume"]
        self._handle.libbpf_set_print(ctypes.cast(self._print, POINTER))

    def _listen(self, level: int, template: int, arguments: int) -> int:
        if level < 2:  # LIBBPF_DEBUG is 2
            line = ctypes.create_string_buffer(512)
            self._format(line, len(line), template, arguments)
            self.said.append(line.value.decode(errors="replace").strip())
        return 0

    def call(self, name: str, *arguments: Any) -> int:
        """A function that answers with 0 or more, or with a negative errno."""
        result = int(getattr(self._handle, name)(*arguments))
        if result < 0:
            raise OSError(-result, f"{name}: {os.strerror(-result)}")
        return result

    def pointer(self, name: str, *arguments: Any) -> int:
        """A function that answers with a pointer, or with NULL and errno."""
        result = getattr(self._handle, name)(*arguments)
        if not result:
            number = ctypes.get_errno()
            raise OSError(number, f"{name}: {os.strerror(number)}")
        return int(result)

    def free(self, name: str, pointer: int) -> None:
        getattr(self._handle, name)(pointer)


_loaded: list[_Library] = []


def library() -> _Library:
    """PreflightError: there is no libbpf 1.x on this machine."""
    if not _loaded:
        _loaded.append(_Library())
    return _loaded[0]


class BpfObject:
    """A compiled object file, opened, then loaded, then attached. Errors are OSError: EPERM where the kernel refuses
    the kind of program or the caller; EINVAL and EACCES where the verifier does (`said` has its last words)."""

    def __init__(self, image: bytes) -> None:
        self._lib = library()
        self._lib.said.clear()
        self._links: list[int] = []
        self._attached: list[int] = []  # descriptors of programs, which stay the object's
        self._object = self._lib.pointer("bpf_object__open_mem", image, len(image), None)

    @property
    def said(self) -> str:
        return " | ".join(self._lib.said)

    def resize(self, name: str, entries: int) -> None:
        """Before `load`. A ring's entries are bytes: a power of two, at least a page."""
        self._lib.call("bpf_map__set_max_entries", self._map(name), entries)

    def leave_out(self, name: str) -> None:
        """Before `load`: this program is not wanted here."""
        self._lib.call("bpf_program__set_autoload", self._program(name), False)

    def load(self) -> None:
        self._lib.call("bpf_object__load", self._object)

    def attach(self, name: str) -> None:
        program = self._program(name)
        self._links.append(self._lib.pointer("bpf_program__attach", program))
        self._attached.append(self._lib.call("bpf_program__fd", program))

    def skipped(self) -> int:
        """How often the kernel did not run an attached program because it was running already on that CPU
        (``recursion_misses`` of struct bpf_prog_info, Linux 5.12; 0 before)."""
        return sum(self._skipped(fd) for fd in self._attached)

    def _skipped(self, fd: int) -> int:
        info = ctypes.create_string_buffer(_INFO)
        size = ctypes.c_uint32(_INFO)
        self._lib.call("bpf_obj_get_info_by_fd", fd, info, ctypes.byref(size))
        return int(struct.unpack_from("=Q", info, _MISSES)[0]) if size.value >= _MISSES + 8 else 0

    def map(self, name: str) -> int:
        """The descriptor of a map of the loaded object; it stays the object's."""
        return self._lib.call("bpf_map__fd", self._map(name))

    def close(self) -> None:
        """Detach everything, give everything back. A second call does nothing."""
        for link in self._links:
            self._lib.free("bpf_link__destroy", link)
        self._links.clear()
        self._attached.clear()
        if self._object:
            self._lib.free("bpf_object__close", self._object)
            self._object = 0

    def _map(self, name: str) -> int:
        return self._lib.pointer("bpf_object__find_map_by_name", self._object, name.encode())

    def _program(self, name: str) -> int:
        return self._lib.pointer("bpf_object__find_program_by_name", self._object, name.encode())


class KernelTypes:
    """The running kernel's own description of its functions (BTF)."""

    def __init__(self) -> None:
        self._lib = library()
        self._btf = self._lib.pointer("btf__load_vmlinux_btf")

    def parameters(self, function: str) -> int | None:
        """How many parameters a function of the kernel proper has; None: there is none of this name."""
        try:
            found = self._lib.call("btf__find_by_name_kind", self._btf, function.encode(), _FUNCTION)
        except OSError as error:
            if error.errno == errno.ENOENT:
                return None
            raise
        _, prototype = self._type(found)
        info, _ = self._type(prototype)
        return info & 0xFFFF

    def _type(self, number: int) -> tuple[int, int]:
        """The words ``info`` and ``type`` of struct btf_type (Documentation/bpf/btf.rst)."""
        at = self._lib.pointer("btf__type_by_id", self._btf, number)
        _, info, following = struct.unpack("=III", ctypes.string_at(at, 12))
        return int(info), int(following)

    def close(self) -> None:
        if self._btf:
            self._lib.free("btf__free", self._btf)
            self._btf = 0


def put(fd: int, key: bytes, value: bytes) -> None:
    """Set an entry. Key and value must have the map's sizes."""
    library().call("bpf_map_update_elem", fd, key, value, 0)


def get(fd: int, key: bytes, size: int) -> bytes:
    """An entry's value of ``size`` bytes. For a per-CPU map: `sum_of`."""
    value = ctypes.create_string_buffer(size)
    library().call("bpf_map_lookup_elem", fd, key, value)
    return value.raw


def sum_of(fd: int, index: int) -> int:
    """One 64-bit counter of a per-CPU array, over all CPUs."""
    raw = get(fd, struct.pack("=I", index), 8 * library().call("libbpf_num_possible_cpus"))
    return sum(struct.unpack(f"={len(raw) // 8}Q", raw))


def take_keys(fd: int, size: int) -> list[bytes]:
    """Every key of a hash map, once, deleted from it before this returns. One that comes anew meanwhile may stay."""
    found: dict[bytes, None] = {}
    key = ctypes.create_string_buffer(size)
    before: bytes | None = None
    while _done("bpf_map_get_next_key", fd, before, key) and key.raw not in found:
        before = key.raw
        found[before] = None
    for taken in found:
        _done("bpf_map_delete_elem", fd, taken)
    return list(found)


def _done(name: str, *arguments: Any) -> bool:
    """False: there is no such key, or none after it."""
    try:
        library().call(name, *arguments)
    except OSError as error:
        if error.errno == errno.ENOENT:
            return False
        raise
    return True


class Ring:
    """A BPF ring buffer (Linux 5.8), read by one thread. libbpf orders its loads and stores, on arm64 too.

    Positions are bytes that were ever reserved (`produced`) or read (`consumed`): what had been reserved when
    `produced` gave N has been read when `consumed` gives N or more.
    """

    def __init__(self, fd: int) -> None:
        self._lib = library()
        self._got: list[bytes] = []
        self._room = self._most = 0
        self._callback = _SAMPLE(self._sample)  # kept: libbpf calls it as long as the ring lives
        page = mmap.PAGESIZE
        self._consumer = mmap.mmap(fd, page, mmap.MAP_SHARED, mmap.PROT_READ, offset=0)
        self._producer = mmap.mmap(fd, page, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
        self._ring = self._lib.pointer("ring_buffer__new", fd, self._callback, None, None)
        self.descriptor = self._lib.call("ring_buffer__epoll_fd", self._ring)

    def produced(self) -> int:
        return int(struct.unpack_from("=Q", self._producer)[0])

    def consumed(self) -> int:
        return int(struct.unpack_from("=Q", self._consumer)[0])

    def take(self, size: int, most: int) -> list[bytes]:
        """The next records, each copied, of about ``size`` bytes together and at most ``most``; fewer if one is still
        being written."""
        self._got = []
        self._room = size
        self._most = most
        result = self._lib.consume(self._ring)
        if result < 0 and result != _STOP:
            raise OSError(-result, f"ring_buffer__consume: {os.strerror(-result)}")
        return self._got

    def close(self) -> None:
        if self._ring:
            self._lib.free("ring_buffer__free", self._ring)
            self._ring = 0
            self._consumer.close()
            self._producer.close()

    def _sample(self, context: int, data: int, size: int) -> int:
        self._got.append(ctypes.string_at(data, size))
        self._room -= size
        return 0 if self._room > 0 and len(self._got) < self._most else _STOP


__all__ = ["BTF", "BpfObject", "KernelTypes", "Ring", "get", "library", "put", "sum_of", "take_keys"]
