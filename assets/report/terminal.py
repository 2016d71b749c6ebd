"""A picture of a command in a terminal: runs it in tmux, captures what it shows, and has Chromium draw that.

    apt-get install tmux chromium fonts-dejavu-core
    python3 assets/report/terminal.py OUT.png COLUMNS ROWS SECONDS COMMAND...
"""

import html
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COLORS = {1: "#cd5c5c", 2: "#4fae6b", 3: "#d7a83d", 4: "#5b8fd9", 5: "#c678b8", 6: "#3fb3c4", 7: "#d4d4d4", 8: "#6f7a83"}
SESSION = "evenkeel-picture"
STYLE = """
body { margin: 0; background: #12161a; } pre { margin: 0; padding: 14px 18px; color: #d8dcdf; white-space: pre;
font: 14px/1.22 "DejaVu Sans Mono"; } u { display: inline-block; width: 1ch; overflow: hidden; text-decoration: none; vertical-align: top; }
b { color: #ffffff; } i { font-style: normal; opacity: .55; }
"""


def capture(columns, rows, seconds, command):
    tmux = lambda *arguments: subprocess.run(["tmux", *arguments], check=True, capture_output=True, text=True).stdout
    tmux("new-session", "-d", "-s", SESSION, "-x", str(columns), "-y", str(rows), "env", "TERM=xterm-256color", *command)
    try:
        time.sleep(seconds)
        return tmux("capture-pane", "-e", "-p", "-t", SESSION)
    finally:
        tmux("kill-session", "-t", SESSION)


def drawn(text):
    """Spans for what the terminal's colours and weights are."""
    color, bold, dim, parts = None, False, False, []
    for piece in re.split(r"(\x1b\[[0-9;]*m)", text):
        if not piece.startswith("\x1b["):
            span = "".join(f"<u>{char}</u>" if ord(char) > 127 else html.escape(char) for char in piece)
            if color in COLORS:
                span = f'<span style="color:{COLORS[color]}">{span}</span>'
            span = f"<b>{span}</b>" if bold else span
            parts.append(f"<i>{span}</i>" if dim else span)
            continue
        codes = [int(code or 0) for code in piece[2:-1].split(";")]
        while codes:
            code = codes.pop(0)
            if code == 0:
                color, bold, dim = None, False, False
            elif code in (1, 2):
                bold, dim = bold or code == 1, dim or code == 2
            elif code == 22:
                bold, dim = False, False
            elif 30 <= code < 38 or 90 <= code < 98:
                color = code - 30 if code < 40 else code - 82
            elif code == 38:
                color, codes = codes[1], codes[2:]
            elif code == 39:
                color = None
    return "".join(parts)


def main(out, columns, rows, seconds, *command):
    text = capture(int(columns), int(rows), float(seconds), command)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        page = Path(folder) / "terminal.html"
        page.write_text(f"<!DOCTYPE html><meta charset=utf-8><style>{STYLE}</style><pre>{drawn(text)}</pre>")
        # The advance of DejaVu Sans Mono is 0.602 of its size.
        size = f"{round(int(columns) * 14 * 0.602) + 36},{round(int(rows) * 14 * 1.22) + 28}"
        subprocess.run(
            ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars",
             "--disable-background-networking", "--disable-component-update", "--disable-sync",
             f"--user-data-dir={folder}/profile", f"--window-size={size}", f"--screenshot={out}", page.as_uri()],
            check=True, capture_output=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
