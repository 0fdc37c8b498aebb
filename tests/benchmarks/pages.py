"""Pages of lenses in Chromium: size, seconds until the map is drawn, frames while it scrolls and changes colours."""

import itertools
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

import semhub_lens as shl
from benchmarks.table import Row, Side
from chrome import Chrome
from planted_lens import planted_lens
from semhub_lens.lens.curves import MOST

SIZES = {
    (6, 19): "150 kB",
    (512, 31): "3,000 kB, 1.5 s, 30 frames a second",
    (1000, 81): "14,000 kB, 4 s",
}
"""Tokens and layers, and the bars."""
SCROLL = """new Promise(done => {
  const map = document.querySelector('.scroll'); let i = 0;
  const step = () => { map.scrollLeft += 40; if (++i < 90) requestAnimationFrame(step); else done(i); };
  requestAnimationFrame(step);
})"""
RECOLOUR = """new Promise(done => {
  const all = [...document.querySelectorAll('[data-colour]')]; let i = 0;
  const step = () => { all[i % all.length].click(); if (++i < 40) requestAnimationFrame(step); else done(i); };
  requestAnimationFrame(step);
})"""


def lens_of(tokens: int, layers: int) -> shl.LensResult:
    """A lens of random tokens out of 30,000 with languages, as long texts have them."""
    short, draw = planted_lens(["␣word"] * 6, layers=layers, k=10), torch.Generator().manual_seed(0)
    curves = -30 * torch.rand((layers, tokens, MOST), generator=draw)
    if tokens == 6:
        return replace(short, curve_ids=short.top_ids[0, :, :1].expand(-1, MOST), curve_logprobs=curves)
    words, shape = 30_000, (layers, tokens, 10)
    table = torch.rand(words, 13, generator=draw)
    return replace(
        short,
        token_ids=torch.arange(tokens),
        labels=("␣word",) * tokens,
        vocabulary=tuple((7 * i, f"␣word{i}") for i in range(words)),
        languages=tuple("abcdefghijklm"),
        token_languages=table / table.sum(1, keepdim=True),
        curve_ids=7 * torch.randint(words, (tokens, MOST), generator=draw),
        curve_logprobs=curves,
        measured={
            "top_ids": 7 * torch.randint(words, shape, generator=draw),
            "top_logprobs": -torch.rand(shape, generator=draw).mul(9).sort(-1).values,
            "entropy": torch.rand(shape[:2], generator=draw),
            "kl_to_final": torch.rand(shape[:2], generator=draw),
        },
    )


def frames(chrome: Chrome, tab, script: str) -> list[float]:
    """Milliseconds between the frames that the browser drew during the script, from its own trace."""
    chrome.events.clear()
    chrome.call("Tracing.start", traceConfig={"includedCategories": ["viz"]})
    tab.js(script)
    chrome.call("Tracing.end")
    chrome.wait_for("Tracing.tracingComplete", None)
    parts = [event["params"]["value"] for event in chrome.events if event.get("method") == "Tracing.dataCollected"]
    shown = sorted(one["ts"] for part in parts for one in part if one["name"] == "Display::FrameDisplayed")
    return [(late - early) / 1000 for early, late in itertools.pairwise(shown)]


def opened(chrome: Chrome, path: Path, rounds: int) -> tuple[float, object]:
    """Median seconds from the navigation to the drawn map, and a tab that shows it."""
    took = []
    for round_ in range(rounds):
        tab = chrome.open(path.as_uri())
        took.append(tab.js("performance.now()") / 1000)
        if round_ < rounds - 1:
            tab.close()
    return statistics.median(took), tab


def measure(*, rounds: int = 3) -> list[Row]:
    """A row a size."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        chrome = Chrome(Path(folder) / "profile")
        for (tokens, layers), bar in SIZES.items():
            path = shl.write_html(lens_of(tokens, layers), Path(folder) / f"{tokens}.html")
            seconds, tab = opened(chrome, path, rounds)
            said = [f"{path.stat().st_size / 1000:,.0f} kB"]
            scripts = (("scrolling", SCROLL), ("recolouring", RECOLOUR)) if tokens > 100 else ()
            for name, script in scripts:
                took = sorted(frames(chrome, tab, script))
                slow = took[int(0.95 * len(took))]
                said.append(f"{name}: {statistics.median(took):.0f} ms a frame, 95 % below {slow:.0f}")
            tab.close()
            name = f"page of {tokens} tokens x {layers} layers, top 10"
            rows.append(Row(name, Side(seconds, 0), bar=bar, note="; ".join(said)))
        chrome.close()
    return rows
