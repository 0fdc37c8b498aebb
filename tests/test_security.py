"""The package runs no code that it reads, reaches no network and starts no process; files lead nowhere else."""

import ast
import json
import socket
import subprocess

import pytest
import torch
from safetensors.torch import save_file

import semhub_lens as shl
import test_layering as layering
from semhub_lens.base.errors import SemhubError
from semhub_lens.base.files import inside, write_aside
from semhub_lens.data.media.coco import read_coco

RUNS_CODE = {"pickle", "cloudpickle", "dill", "marshal", "shelve", "joblib"}
LEAVES = {"subprocess", "socket", "ssl", "http", "ftplib", "urllib.request", "requests", "httpx", "aiohttp", "pty"}
CALLS = {"eval", "exec", "compile", "__import__"}
METHODS = {"read_pickle", "to_pickle", "system", "popen", "spawnv", "execv", "load_state_dict_from_url"}


def imported(node):
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module:
        return [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return []


def called(node):
    """What is wrong with a call, or an empty text."""
    named = {keyword.arg: keyword.value for keyword in node.keywords}
    on = {name: isinstance(value, ast.Constant) and value.value is True for name, value in named.items()}
    dotted = ast.unparse(node.func)
    if dotted in CALLS or dotted.rpartition(".")[2] in METHODS:
        return dotted
    if dotted == "torch.load" and not on.get("weights_only"):
        return "torch.load without weights_only=True"
    return "".join(name for name in ("allow_pickle", "trust_remote_code") if name in named)


def found(source):
    """What in a module could run what it reads, or leave the process."""
    for node in ast.walk(ast.parse(source)):
        for name in imported(node):
            if any(name == bad or name.startswith(f"{bad}.") for bad in RUNS_CODE | LEAVES):
                yield name
        if isinstance(node, ast.Call) and (wrong := called(node)):
            yield wrong


@pytest.mark.parametrize("module", layering.files())
def test_no_module_runs_what_it_reads_or_leaves_the_process(module):
    assert list(found(layering.files()[module].read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from urllib.request import urlopen",
        "from urllib import request",
        "def f():\n    import subprocess as s",
        "eval('1')",
        "torch.load(file)",
        "torch.load(file, weights_only=False)",
        "numpy.load(file, allow_pickle=True)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
        "frame.to_pickle(path)",
        "os.system('ls')",
    ],
)
def test_what_would_is_found(source):
    assert list(found(source))
    assert not list(found("import re\nre.compile('x')\ntorch.load(file, weights_only=True)\nmodel.eval()"))


def test_a_connection_and_a_process_of_the_package_fail_a_test(tmp_path):
    refused = pytest.fail.Exception
    with pytest.raises(refused, match="connects to"), socket.socket() as other:
        other.connect(("192.0.2.1", 9))
    with pytest.raises(refused, match=r"looks up example\.invalid"):
        socket.getaddrinfo("example.invalid", 443)
    with pytest.raises(refused, match=r"files\.py:\d+ starts"):
        write_aside(tmp_path / "x", lambda aside: subprocess.run(["true"], check=True))
    assert subprocess.run(["true"], check=False).returncode == 0 and not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["../x.jpg", "/etc/passwd", "a/../../x.jpg", ".."])
def test_a_name_in_a_file_does_not_lead_out_of_its_folder(name, tmp_path):
    with pytest.raises(SemhubError, match="leads out of the folder"):
        inside(tmp_path, name)
    assert inside(tmp_path, "a/..b.jpg") == tmp_path / "a" / "..b.jpg"
    (tmp_path / "x.jpg").write_bytes(b"")
    (tmp_path / "set" / "annotations").mkdir(parents=True)
    square = {"image_id": 1, "category_id": 1, "segmentation": [[0, 0, 1, 0, 1, 1]]}
    images = [{"id": 1, "file_name": name, "height": 1, "width": 1}]
    content = {"images": images, "annotations": [square], "categories": [{"id": 1, "name": "cat"}]}
    (tmp_path / "set" / "annotations" / "instances_val.json").write_text(json.dumps(content))
    with pytest.raises(SemhubError, match="leads out of the folder"):
        read_coco(tmp_path / "set")


WHERE = {"class": "Provenance", "fields": {}}
HEADERS = {
    "a command": ({"class": "X", "module": "semhub_lens.__main__"}, "contains a 'X', which this version"),
    "another package": ({"class": "X", "module": "antigravity"}, "contains a 'X', which this version"),
    "a path": ({"class": "X", "module": "semhub_lens.../../x"}, "contains a 'X', which this version"),
    "no module": ({"class": "X", "module": "semhub_lens.nothing.there"}, "contains a 'X', which this version"),
    "controls": ({"class": "\x1b[2J\x07"}, r"contains a '\\x1b\[2J\\x07'"),
    "a list": ({"class": ["LensResult"]}, "which this version"),
    "no header": ([1], "is not a result"),
    "a part": (WHERE, "contains a 'Provenance', which this version"),
    "no mapping": ({"class": "Generation", "fields": [1]}, "has other fields"),
    "another tensor": ({"class": "Generation", "fields": {"prompts": {"tensor": "../../x"}}}, "has other fields"),
    "deep": ({"class": "Generation", "fields": {"prompts": "DEEP"}}, "is not a result|has other fields"),
    "a schema in words": ({"class": "Generation", "schema": "two"}, "is not a result"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_hostile_file_of_a_result_is_refused(name, tmp_path):
    header, message = HEADERS[name]
    text = json.dumps(header).replace('"DEEP"', 50_000 * "[" + 50_000 * "]")
    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors", {"semhub_lens": text})
    with pytest.raises(SemhubError, match=message):
        shl.load_result(tmp_path / "x.safetensors")
