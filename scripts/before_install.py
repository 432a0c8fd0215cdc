"""Say what the first run fetches and needs, and stop if the machine is short of it.

Run by `make` before anything is downloaded, so it uses the standard library alone.
"""

import os
import shutil
import sys

PYTHON_PACKAGES_MB = 446
JARS_MB = 184
DISK_MB = 3000
MEMORY_MB = 2500
MB = 1024 * 1024


def main() -> int:
    """Print the needs; return 0 when they are met, else 1."""
    disk_mb = shutil.disk_usage(".").free // MB
    memory_mb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // MB
    print(
        f"First run: fetches about {PYTHON_PACKAGES_MB} MB of Python packages, and later about "
        f"{JARS_MB} MB of jars.\nNeeds {DISK_MB / 1000:.0f} GB of disk ({disk_mb / 1000:.0f} "
        f"free) and {MEMORY_MB / 1000:.1f} GB of memory ({memory_mb / 1000:.0f} built in)."
    )
    if disk_mb < DISK_MB or memory_mb < MEMORY_MB:
        print("This machine is short of that: free some disk, or use a larger machine.")
        return 1
    return 0


sys.exit(main())
