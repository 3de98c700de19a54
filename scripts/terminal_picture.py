"""Makes the terminal picture of the README from a real run: `make picture`.

Runs `chaosgrade gameday` with standard error at a pseudo-terminal, keeps one frame of the live view
from the time when the fault was felt most, and draws it with the final report as an SVG.
"""

import os
import pty
import re
import subprocess
import sys
import threading
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parent.parent
PICTURE = ROOT / "docs" / "pictures" / "gameday.svg"
COLUMNS = 100
# Rich moves up and clears line by line before it draws a frame anew.
_REDRAW = re.compile(r"\r?\x1b\[2K(?:\x1b\[1A\x1b\[2K)*")
_SUCCESS = re.compile(r"(\d+\.\d+)%")
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def run() -> tuple[str, str]:
    """What a game day writes to standard error at a terminal, and to standard output."""
    controller, terminal = pty.openpty()
    environ = {**os.environ, "COLUMNS": str(COLUMNS), "LINES": "40", "FORCE_COLOR": "1",
               "TERM": "xterm-256color", "COLORTERM": "truecolor"}  # fmt: skip
    process = subprocess.Popen(
        [Path(sys.executable).parent / "chaosgrade", "gameday", "--seed", "7"],
        stdout=subprocess.PIPE, stderr=terminal, env=environ, cwd=ROOT,
    )  # fmt: skip
    os.close(terminal)
    seen: list[bytes] = []

    def read() -> None:
        while True:
            try:
                chunk = os.read(controller, 65536)
            except OSError:  # the other end is closed
                return
            if not chunk:
                return
            seen.append(chunk)

    reader = threading.Thread(target=read)
    reader.start()
    output, _ = process.communicate()
    reader.join()
    return b"".join(seen).decode(), output.decode()


def frame(live: str) -> str:
    """The frame of the live view with the lowest success rate after the fault."""
    frames = [part for part in _REDRAW.split(live) if "watching what customers feel" in part]
    if not frames:
        raise SystemExit("the live view never showed the fault: no picture")

    def success(part: str) -> float:
        found = _SUCCESS.search(_ANSI.sub("", part))
        return float(found.group(1)) if found else 101.0

    return min(frames, key=success)


def main() -> None:
    """Run, draw, write."""
    live, report = run()
    console = Console(record=True, width=COLUMNS, file=open(os.devnull, "w"), force_terminal=True)  # noqa: SIM115
    console.print(Text.from_ansi(frame(live).replace("\r", "").rstrip()))
    console.print()
    console.print(Text.from_ansi(report.replace(str(ROOT) + "/", "").rstrip()))
    svg = console.export_svg(title="$ make gameday")
    # The picture must not fetch anything: drop the web font that Rich refers to.
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    PICTURE.write_text(svg, encoding="utf-8")
    print(f"{PICTURE.relative_to(ROOT)} is drawn")


if __name__ == "__main__":
    main()
