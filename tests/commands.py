"""Commands in forks of one process that has imported the package: the import alone takes eight seconds otherwise.

A fork is a process of its own: it has its own arguments, folder, environment and streams, and Python ends it as usual.
Where the start itself is what is tested, start a process.
"""

import json
import os
import subprocess
import sys

SERVER = """
import json, os, sys
import transformer_lens
before = set(sys.modules)
import semhub_lens
imported = set(sys.modules) - before
for line in sys.stdin:
    asked = json.loads(line)
    child = os.fork()
    if not child:
        break
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
else:
    sys.exit()
import io, runpy, signal
signal.alarm(300)
for number, path in enumerate([os.devnull, asked["out"], asked["err"]]):
    os.dup2(os.open(path, os.O_RDWR), number)
os.environ.clear()
os.environ.update(asked["env"])
encoding = os.environ.get("PYTHONIOENCODING", "utf-8")
sys.stdin = open(0, encoding=encoding)
sys.stdout = io.TextIOWrapper(open(1, "wb"), encoding, "strict")
sys.stderr = io.TextIOWrapper(open(2, "wb"), encoding, "backslashreplace", line_buffering=True)
os.chdir(asked["cwd"])
kind, what, *sys.argv[1:] = asked["arguments"]
if kind == "-m":
    runpy.run_module(what, run_name="__main__", alter_sys=True)
else:
    exec(what, {"__name__": "__main__", "imported": imported})
"""


class Forks:
    """Takes what `python` takes, `-m MODULE ...` or `-c CODE ...`; code also knows `imported`.

    `imported` names the modules that the package has brought in beyond those of transformer-lens.
    """

    def __init__(self, folder):
        self._folder, self._number = folder, 0
        command = [sys.executable, "-c", SERVER]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self, *arguments, cwd, env=None):
        """The finished process: exit status and what it printed, as bytes."""
        self._number += 1
        out, err = (self._folder / f"{self._number}.{name}" for name in ("out", "err"))
        out.touch(), err.touch()
        asked = {"arguments": arguments, "cwd": str(cwd), "env": dict(os.environ if env is None else env)}
        self._process.stdin.write(json.dumps(asked | {"out": str(out), "err": str(err)}) + "\n")
        self._process.stdin.flush()
        status = int(self._process.stdout.readline())
        return subprocess.CompletedProcess(arguments, status, out.read_bytes(), err.read_bytes())

    def close(self):
        """End the process; what it has forked has ended."""
        self._process.communicate()
