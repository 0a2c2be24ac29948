"""Stepping back is checked in a process of its own: it cannot be undone without privilege."""

import subprocess
import sys

PROGRAM = """
import os, threading
from livelift.platform.linux.priority import IDLE, io_class, lower_priority
go, seen = threading.Event(), []
def other():
    go.wait()
    seen.append((os.getpriority(os.PRIO_PROCESS, threading.get_native_id()), io_class()))
thread = threading.Thread(target=other)
thread.start()
lower_priority(12)
go.set()
thread.join()
assert os.getpriority(os.PRIO_PROCESS, 0) == 12
assert io_class() in (IDLE, None)
assert seen == [(12, io_class())], seen
lower_priority(5)
assert os.getpriority(os.PRIO_PROCESS, 0) == 12, "never raised"
print("ok")
"""


def test_every_thread_steps_back() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=20, check=False)
    assert done.stdout == "ok\n", done.stderr


ALONE = """
import os, threading
from livelift.platform.linux.priority import BEST_EFFORT, IDLE, io_class, lower_priority, normal_priority
lower_priority(12)
seen = []
def other():
    try:
        normal_priority()
    except PermissionError:
        assert os.geteuid()
        seen.append("refused")
        return
    seen.append((os.getpriority(os.PRIO_PROCESS, 0), io_class() in (BEST_EFFORT, None)))
thread = threading.Thread(target=other)
thread.start()
thread.join()
assert seen in ([(0, True)], ["refused"]), seen
assert (os.getpriority(os.PRIO_PROCESS, 0), io_class() in (IDLE, None)) == (12, True)
print("ok")
"""


def test_one_thread_alone_comes_back() -> None:
    done = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, timeout=20, check=False)
    assert done.stdout == "ok\n", done.stderr
