"""Runs a command at a pseudo-terminal, types lines at it, and writes to standard output all that the terminal showed.

Usage: at_a_terminal.py COMMAND [ARGUMENT]... < LINES

A line is typed when the prompt has been shown once more; the exit status is the command's.
"""

import os
import pty
import re
import select
import sys

PROMPT = b"aquifer> "
# Nothing is silent for so long, on however busy a machine: it hangs.
SECONDS_MAX = 300

CONTROL = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]|\r")

lines = [line + b"\n" for line in sys.stdin.buffer.read().split(b"\n") if line]
child, terminal = pty.fork()
if child == 0:
    os.environ["TERM"] = "xterm"
    os.execv(sys.argv[1], sys.argv[1:])

shown, answered = b"", 0
while select.select([terminal], [], [], SECONDS_MAX)[0]:
    try:
        piece = os.read(terminal, 65536)
    except OSError:  # The other end is closed: the command has ended.
        break
    if not piece:
        break
    shown += piece
    # The editor draws its prompt anew while it is typed at: it waits when the prompt is the last thing there.
    if lines and CONTROL.sub(b"", shown[answered:]).endswith(PROMPT):
        answered = len(shown)
        os.write(terminal, lines.pop(0))
else:
    os.kill(child, 9)

sys.stdout.buffer.write(shown)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
