"""Run a command and print what it took, as JSON: `python -m tests.bench.launch COMMAND...`.

A process of its own, and a small one: a child begins with the memory of whoever forked it, and its peak is never less.
"""

import json
import os
import sys
import time


def main() -> int:
    """Give the command's exit code."""
    began = time.perf_counter()
    pid = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, 2, 1)])
    _, status, took = os.wait4(pid, 0)
    s = time.perf_counter() - began
    print(json.dumps({"s": s, "cpu_s": took.ru_utime + took.ru_stime, "peak_mb": took.ru_maxrss * 1024 / 1e6}))
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main())
