"""What tests read off an explorer's page, and what they expect there."""

import json
import math
import re

import pytest
import torch

import semhub_lens as shl
from browser import CHROMIUM
from semhub_lens.base.results import unnamed

in_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (.ci/run installs it)")
LABELS = ["<bos>", "␣dog", "␣dog", "␣dog", "مرحبا", "天", "↵", "␣two"]
BLUE = (29, 74, 165)


def cells(tab, value):
    """`value` (JavaScript, of the element `c`) of every cell that exists, by (layer, position)."""
    found = tab.js(f"Object.fromEntries([...{tab.root}.querySelectorAll('.cell')].map(c => [c.id, {value}]))")
    return {tuple(int(i) for i in name[1:].split("-")): one for name, one in found.items()}


def active(tab):
    """The cell on which the keyboard stands."""
    name = tab.js("document.querySelector('.scroll').getAttribute('aria-activedescendant')")
    return name and tuple(int(i) for i in name[1:].split("-"))


def every(lens):
    layers, positions = lens.entropy.shape
    return [(layer, pos) for layer in range(layers) for pos in range(positions)]


def percent(p):
    return "100 %" if p >= 0.9995 else f"{100 * p:#.3g} %"


def probabilities(lens):
    return lens.top_logprobs.double().exp().tolist()


def mixed(colour, p):
    share = 0.05 + 0.95 * math.sqrt(p)
    return [255 + (one - 255) * share for one in colour]


def rgb(text):
    return [int(one) for one in re.findall(r"\d+", text)[:3]]


def assert_blue(tab, selector, lens):
    """The canvas is as blue in the middle of every cell as the cell is probable."""
    layers, positions = lens.entropy.shape
    p = probabilities(lens)
    wanted = [mixed(BLUE, p[layer][pos][0]) for layer, pos in every(lens)]
    shown = tab.js(f"""(c => {{
        const data = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
        return {json.dumps(every(lens))}.map(([layer, pos]) => {{
            const x = Math.floor((pos + 0.5) / {positions} * c.width);
            const y = Math.floor(({layers} - 0.6 - layer) / {layers} * c.height);
            return [...data.slice(4 * (y * c.width + x), 4 * (y * c.width + x) + 3)];
        }});
    }})(document.querySelector("{selector}"))""")
    assert torch.allclose(torch.tensor(shown).double(), torch.tensor(wanted).double(), atol=1.5)


def contrast(one, other):
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour):
    linear = [v / 255 / 12.92 if v <= 10 else ((v / 255 + 0.055) / 1.055) ** 2.4 for v in colour]
    return sum(part * weight for part, weight in zip(linear, (0.2126, 0.7152, 0.0722), strict=True))


PATCHED = ("<bos>", "␣The", "␣France", "␣<b>x</b>")
CLEAN_TOKENS = ("<bos>", "␣The", "␣Spain", "␣<b>x</b>")


def patches(axes, shape, seed=0):
    values = torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 3 - 1
    return shl.PatchResult(
        values=values, clean=1.5, corrupted=-0.5, site="z", metric="logit difference",
        positions=((0, 0), (1, 1), (2, 2), (4, 3)), clean_labels=CLEAN_TOKENS, labels=PATCHED, axes=axes,
        provenance=unnamed(),
    )  # fmt: skip


def written(lens):
    """An attribution of two tokens at position 3; the heads of blocks 1 and 4, which has one head less."""
    draw = torch.Generator().manual_seed(3)
    bars = {name: torch.randn(2, 5, generator=draw) for name in ("attention", "mlp")}
    rest = {name: torch.randn(2, generator=draw) for name in ("embedding", "bias", "logits")}
    heads = torch.randn(2, 2, 3, generator=draw)
    heads[:, 1, 2] = torch.nan
    whole = {**bars, **rest, "head_blocks": (1, 4), "heads": heads, "provenance": lens.provenance}
    return shl.AttributionResult(3, (7, 10), ("␣sky", "<b>x</b>"), **whole)


def choose(tab, selector, value):
    change = f"(s => {{ s.value = {value}; s.dispatchEvent(new Event('change')); }})"
    tab.js(f"{change}(document.querySelector({json.dumps(selector)}))")
