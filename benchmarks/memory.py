"""Memory of the process that asks."""

import resource
import sys
from pathlib import Path


def peak_rss() -> int:
    """The most bytes that this process has had in memory at once."""
    status = Path("/proc/self/status")
    if status.exists():  # not getrusage: on Linux a new process inherits the peak of the one that started it
        [line] = [line for line in status.read_text("utf-8").splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
