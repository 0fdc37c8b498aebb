"""Work that is killed at random points and taken up again; `python tests/interruption.py 50` kills each kind 50 times.

A child is forked, so that nothing is imported again. It counts what it does, Python and C calls or file operations, and
kills itself with SIGKILL at a drawn number. What it had begun to write is cut in half, as a disk may leave it.
"""

import json
import os
import random
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
import torch
from transformers import AutoModelForCausalLM

import models
import semhub_lens as shl
from jobs import job_on
from semhub_lens import experiments
from semhub_lens.evidence.legs import LegText, make_leg
from semhub_lens.evidence.stats import sign_flips
from semhub_lens.experiments.runs import Experiment, run_experiment
from semhub_lens.model import packaged
from semhub_lens.report import report as hub

TEXTS = ["three plus two", "five minus one", "red dog", "blue cat", "green house"] * 14
torch.set_num_threads(1)  # a forked child must not wait for threads that it does not have
FILE_EVENTS = ("open", "os.", "shutil.")


@dataclass
class Point:
    """Where a child kills itself: at its n-th call, or some calls after its n-th file operation has begun."""

    kind: str
    n: int
    calls: int = 0


def forked(work: Callable[[], object], point: Point | None = None) -> object:
    """What `work` returns in a child (as JSON), or None where the child was killed."""
    out, into = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(out)
            count_to(point)
            told = json.dumps(work())
            sys.setprofile(None)
            os.write(into, told.encode())
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(into)
    with os.fdopen(out) as told:
        text = told.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert point is not None and os.WTERMSIG(status) == signal.SIGKILL
        return None
    assert status == 0, "the child failed; its traceback stands above"
    return json.loads(text)


def count_to(point: Point | None) -> None:
    """Kill this process at the point; nothing takes this back."""
    if point is None:
        return
    left = {"files": point.n, "calls": point.calls if point.kind == "files" else point.n}

    def called(*_: object) -> None:
        left["calls"] -= 1
        if left["calls"] == -1:  # not below: the kill is itself an event
            os.kill(os.getpid(), signal.SIGKILL)

    def audited(event: str, _: object) -> None:
        if event.startswith(FILE_EVENTS):
            left["files"] -= 1
            if left["files"] == -1:
                sys.setprofile(called)

    if point.kind == "calls":
        sys.setprofile(called)
    else:
        sys.addaudithook(audited)


WORDING = LegText(
    title="planted", data_type="languages", kind="similarity", claim="a claim", control="a control", unit="cosine",
    curve_unit="cosine",
)  # fmt: skip


def planted(job):
    """Three parts of states and three of rows, on the job's model."""
    rows = job.store.lists("rows", TEXTS, lambda part: [len(text) for text in part])
    effect = job.states("states", TEXTS)[..., 0] + torch.tensor(rows)
    provenance = job.provenance("planted texts", TEXTS)
    leg = make_leg(effect, sign_flips(effect), WORDING, provenance=provenance, seed=job.seed, curves={})
    return shl.ExperimentResult("planted", "planted", (leg,), (), provenance=provenance)


class SavedRun:
    """An experiment that is saved: the same numbers, and nothing but its four files."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.model = folder, models.tiny()
        self.expected = run_experiment(Experiment("planted", "planted", 70, planted), self.job()).to_frame()

    def job(self):
        return job_on(self.model, 70)

    def work(self) -> str:
        run_experiment(Experiment("planted", "planted", 70, planted), self.job(), self.folder)
        return "done"

    def whole(self) -> bool:
        """Whether the finished work is there, complete."""
        saved = self.folder / "planted"
        found = {path.name for path in saved.iterdir()}
        again = shl.ExperimentResult.load(saved / "result.safetensors").to_frame()
        return again.equals(self.expected) and found == {
            "items.parquet", "result.safetensors", "run.json", "figure.html",
        }  # fmt: skip

    def sound(self) -> bool:
        """Whether what a killed child left says nothing false: a record only beside a whole result."""
        saved = self.folder / "planted"
        return not (saved / "run.json").exists() or shl.load_result(saved / "result.safetensors") is not None


class Conversion:
    """Packaged weights: a folder with its own name only when complete."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.model = folder, models.tiny_llama()
        (folder / "weights").write_bytes(b"weights" * 1000)

    def work(self) -> str:
        os.environ["SEMHUB_CACHE"] = str(self.folder / "cache")
        packaged._dequantise = lambda gguf, into: self.model.save_pretrained(into)
        return str(packaged.plain_folder("small", [self.folder / "weights"]))

    def named(self) -> list[Path]:
        inside = (self.folder / "cache" / "models").glob("*")
        return [path for path in inside if path.suffix not in (".lock", ".partial")]

    def whole(self) -> bool:
        (found,) = self.named()
        again = AutoModelForCausalLM.from_pretrained(found).state_dict()
        same = all(torch.equal(value, again[name]) for name, value in self.model.state_dict().items())
        return same and not list(found.parent.glob("*.partial")) and not list(found.glob("*.gguf"))

    def sound(self) -> bool:
        return all(self.whole() for _ in self.named())


class Page:
    """A result and its page, written over older ones: the old or the new one is there, whole."""

    def __init__(self, folder: Path) -> None:
        self.folder, model = folder, models.tiny()
        self.old, self.new = (shl.logit_lens(model, text, progress=False) for text in ("red dog", "blue cat"))
        self.write(self.old)
        self.pages = [self.page().read_bytes()]
        self.write(self.new)
        self.pages.append(self.page().read_bytes())
        self.write(self.old)

    def page(self) -> Path:
        return self.folder / "page.html"

    def write(self, result) -> str:
        shl.write_html(result, self.page())
        result.save(self.folder / "lens.safetensors")
        return "done"

    def work(self) -> str:
        return self.write(self.new)

    def held(self) -> tuple[bytes, bool]:
        return self.page().read_bytes(), torch.equal(
            shl.LensResult.load(self.folder / "lens.safetensors").top_ids, self.new.top_ids
        )

    def whole(self) -> bool:
        found = self.held()
        for begun in self.folder.glob(".*.partial"):
            begun.unlink()
        return found[1] and len(found[0]) == len(self.pages[1])

    def sound(self) -> bool:
        return len(self.held()[0]) in map(len, self.pages)


def planted_run(name, model, *, out, **settings):
    """In place of `experiments.run`: the planted experiment under another id."""
    return run_experiment(
        Experiment(name, name, 70, lambda job: replace(planted(job), id=name)), job_on(model, 70), out
    )


class Report:
    """A report of two experiments: page and report.json are whole at any moment, and tell what was measured."""

    ids = ("probing", "multilingual.similarity")

    def __init__(self, folder: Path) -> None:
        self.folder, self.model = folder / "report", models.tiny()
        with tempfile.TemporaryDirectory() as other:
            forked(lambda: self.written(Path(other)))
            self.expected = self.told(Path(other))

    def work(self) -> str:
        return self.written(self.folder)

    def written(self, folder: Path) -> str:
        """Report in this process, which is a child and ends behind it."""
        experiments.run, hub.LENS_PROMPTS = planted_run, ("three plus",)
        hub.report(self.model, folder / "page.html", only=self.ids, readers=[], progress=False)
        return "done"

    def told(self, folder: Path) -> list:
        """What report.json says of every leg."""
        record = json.loads((folder / "page.json").read_text(encoding="utf-8"))
        assert record["complete"] and [one["id"] for one in record["experiments"]] == list(self.ids)
        return [one["legs"] for one in record["experiments"]]

    def whole(self) -> bool:
        saved = {path.name for one in self.ids for path in (self.folder / "page_runs" / one).iterdir()}
        same = self.told(self.folder) == self.expected
        page = (self.folder / "page.html").read_text(encoding="utf-8")
        return same and page.rstrip().endswith("</html>") and saved == {
            "items.parquet", "result.safetensors", "run.json", "figure.html",
        }  # fmt: skip

    def sound(self) -> bool:
        page, record = self.folder / "page.html", self.folder / "page.json"
        held = json.loads(record.read_text(encoding="utf-8")) if record.exists() else {}
        told = {one["id"] for one in held.get("experiments", ())}
        runs = {path.parent.name for path in self.folder.glob("page_runs/*/run.json")}
        return told <= runs and (not page.exists() or page.read_text(encoding="utf-8").rstrip().endswith("</html>"))


KINDS = {"run": SavedRun, "conversion": Conversion, "page": Page, "report": Report}


def halve(folder: Path) -> None:
    """Cut what was being written, as a disk may leave it."""
    for path in folder.rglob("*"):
        if path.is_file() and ".partial" in str(path):
            os.truncate(path, path.stat().st_size // 2)


def calls_of(kind: type) -> dict[str, int]:
    """How many calls and file operations the whole work makes."""

    def counting() -> dict[str, int]:
        counted = {"calls": 0, "files": 0}

        def count(name: str) -> None:
            counted[name] += 1

        sys.addaudithook(lambda event, _: count("files") if event.startswith(FILE_EVENTS) else None)
        sys.setprofile(lambda *_: count("calls"))
        fresh.work()
        sys.setprofile(None)
        return counted

    with tempfile.TemporaryDirectory() as folder:
        fresh = kind(Path(folder))
        return forked(counting)


def interrupted(name: str, kills: int, seed: int = 0) -> dict[str, int]:
    """Kill the work so often, going on with it each time, and say how often it was killed and finished.

    Raises:
        AssertionError: something was lost, false or other than in an uninterrupted run.
    """
    kind, rng = KINDS[name], random.Random(seed)
    most, done = calls_of(kind), {"killed": 0, "finished": 0}
    while done["killed"] < kills or not done["finished"]:
        with tempfile.TemporaryDirectory() as folder:
            work = kind(Path(folder))
            ended = False
            while not ended:
                events = "files" if rng.random() < 0.6 else "calls"
                enough = done["killed"] >= kills
                point = None if enough else Point(events, rng.randrange(most[events]), rng.randrange(10))
                ended = forked(work.work, point) is not None
                done["finished" if ended else "killed"] += 1
                halve(Path(folder))
                assert work.whole() if ended else work.sound(), f"{name}, killed at {point}"
    return done


if __name__ == "__main__":
    for each in KINDS:
        print(each, interrupted(each, int(sys.argv[1]) if len(sys.argv) > 1 else 50), flush=True)
