"""A JupyterLab whose server has an environment of its own, without plotly and this package; its kernels have this one.

So is a JupyterHub, and every JupyterLab that starts from another environment than the kernel's.
"""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_notebook

from chrome import PATIENCE, until
from test_release import release

HERE = Path(__file__).parent
GUIDE = HERE.parent / "docs" / "guides" / "jupyter.md"
TOKEN = "of-this-test"
NO_NEWS = {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}
"""JupyterLab would ask the network for news."""
ASIDE = ("PYTHON", "JUPYTER", "IPYTHON", "XDG_", "VIRTUAL_ENV")
"""What the server's user does not have of this process's environment."""
PINK = "[data-mime-type='application/vnd.jupyter.stderr']"


class Lab:
    """A server that runs, of a user of its own; `open` shows a notebook, `close` ends it with its kernels."""

    def __init__(self, folder):
        self.python = release.empty_environment(folder / "server", release.closure(["jupyterlab"]).values())
        self.notebooks, self._home = folder / "notebooks", folder / "home"
        self._data, config = self._home / ".local" / "share" / "jupyter", self._home / ".jupyter" / "labconfig"
        for made in (self.notebooks, config):
            made.mkdir(parents=True)
        (config / "page_config.json").write_text(json.dumps(NO_NEWS))
        self.follow_the_guide("ipykernel install")
        self._let_kernels_see(HERE.parent, HERE)
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
        options = ["--no-browser", "--allow-root", "--expose-app-in-browser", "--ip=127.0.0.1", f"--port={port}"]
        command = [self.python, "-m", "jupyterlab", *options, f"--ServerApp.root_dir={self.notebooks}"]
        self._log = (folder / "log").open("wb")
        streams = {"stdin": subprocess.DEVNULL, "stdout": self._log, "stderr": subprocess.STDOUT}
        self._process = subprocess.Popen(command, env=self._environment(), **streams)
        self.address = until(self._told)

    def _environment(self):
        left = {name: value for name, value in os.environ.items() if not name.startswith(ASIDE)}
        path = f"{Path(sys.prefix) / 'bin'}{os.pathsep}{left['PATH']}"
        return left | {"HOME": str(self._home), "PATH": path, "JUPYTER_TOKEN": TOKEN}

    def _let_kernels_see(self, *folders):
        """The package under test and the tests' models."""
        (found,) = self._data.glob("kernels/*/kernel.json")
        spec = json.loads(found.read_text())
        spec["env"] = {"PYTHONPATH": os.pathsep.join(map(str, folders)), "OMP_NUM_THREADS": "1"}
        found.write_text(json.dumps(spec))
        self._kernel = found.parent.name

    def _told(self):
        """Where it listens, once it does."""
        assert self._process.poll() is None, Path(self._log.name).read_text()
        for found in self._data.glob("runtime/jpserver-*.json"):
            text = found.read_text()
            return json.loads(text)["url"] if text.rstrip().endswith("}") else None

    def command(self, *command):
        """Run a command as the server's user; what it prints."""
        done = subprocess.run(command, env=self._environment(), cwd=self.notebooks, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def follow_the_guide(self, part):
        """Run the commands of the guide that have this in them."""
        blocks = re.findall(r"^```bash\n(.*?)^```$", GUIDE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
        (block,) = (one for one in blocks if part in one)
        self.command("bash", "-euc", block)

    def write(self, name, *cells):
        """A notebook of this code."""
        made = new_notebook(cells=[new_code_cell(cell) for cell in cells])
        made.metadata["kernelspec"] = {"name": self._kernel, "display_name": self._kernel, "language": "python"}
        nbformat.write(made, self.notebooks / name)

    def open(self, chrome, name):
        """A notebook in a tab and a workspace of its own, once its kernel waits."""
        tab = chrome.open(f"{self.address}lab/workspaces/{Path(name).stem}/tree/{name}?token={TOKEN}")
        tab.until("window.jupyterapp?.shell.currentWidget?.sessionContext")
        tab.js("jupyterapp.shell.currentWidget.sessionContext.ready.then(() => null)")
        return tab

    def run(self, tab, *cells):
        """Run cells of the notebook in a tab to their end."""
        for cell in cells:
            tab.js(f"jupyterapp.shell.currentWidget.content.activeCellIndex = {cell}")
            assert tab.js("jupyterapp.commands.execute('notebook:run-cell').then(String)") == "true"

    def save(self, tab):
        """Write the notebook in a tab to the disk."""
        tab.js("jupyterapp.commands.execute('docmanager:save').then(() => null)")

    def saved(self, name):
        """The notebook as it lies on the disk."""
        return nbformat.read(self.notebooks / name, as_version=4)

    def close(self):
        self._process.terminate()
        self._process.wait(PATIENCE)
        self._log.close()
