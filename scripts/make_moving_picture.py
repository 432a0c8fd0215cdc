"""Film the page of a running API: `python scripts/make_moving_picture.py URL FILE.webp`.

With `tapeline demo` in another terminal, URL is the address that it prints. It needs the packages
of `requirements-dev.lock`, a Chromium and `img2webp` on the `PATH` (Debian: `apt-get install
--no-install-recommends chromium webp`).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from playwright.sync_api import sync_playwright

_SIZE: Final = {"width": 1000, "height": 560}
_FRAMES: Final = 60
_FRAME_S: Final = 0.2
_LAST_S: Final = 2.0
_QUALITY: Final = 60


def film(url: str, folder: Path) -> list[tuple[Path, float]]:
    """Take pictures of the page; return the file of each and when it was taken, in s."""
    taken = []
    with sync_playwright() as playwright:
        # A container's user may not make the namespaces of Chromium's sandbox; the page is ours.
        options = {"executable_path": shutil.which("chromium"), "args": ["--no-sandbox"]}
        browser = playwright.chromium.launch(**options)
        page = browser.new_page(viewport=_SIZE, color_scheme="dark")
        page.goto(url)
        page.wait_for_selector("canvas")
        page.wait_for_timeout(5_000)  # until all of the past is drawn
        start_s = time.monotonic()
        for number in range(_FRAMES):
            time.sleep(max(0.0, start_s + number * _FRAME_S - time.monotonic()))
            taken.append((folder / f"{number:03}.png", time.monotonic()))
            page.screenshot(path=taken[-1][0])
        browser.close()
    return taken


def join(taken: list[tuple[Path, float]], file: Path) -> None:
    """Make one file of the pictures, which plays for ever as fast as it happened."""
    program = shutil.which("img2webp") or sys.exit("img2webp is not on the PATH: install it.")
    ends = [at_s for _, at_s in taken[1:]] + [taken[-1][1] + _LAST_S]
    command = [program, "-loop", "0", "-min_size", "-lossy", "-q", str(_QUALITY), "-m", "6"]
    for (picture, at_s), end_s in zip(taken, ends, strict=True):
        command += ["-d", str(round((end_s - at_s) * 1000)), str(picture)]
    subprocess.run([*command, "-o", str(file)], check=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        join(film(sys.argv[1], Path(folder)), Path(sys.argv[2]))
