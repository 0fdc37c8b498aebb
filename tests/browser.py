"""Pages in a real browser."""

import shutil
import subprocess

CHROMIUM = shutil.which("chromium")


def rendered(path):
    """The page's DOM after its scripts ran, in real Chromium."""
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-sync",
        "--virtual-time-budget=8000",
    ]
    command = [CHROMIUM, *flags, f"--user-data-dir={path.parent / 'profile'}", "--dump-dom", path.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
