"""Lenses whose numbers are given, without a model."""

import torch

import semhub_lens as shl
from semhub_lens.base.results import unnamed

WORDS = {
    "en": ["␣sky", "␣blue", "␣is", "␣color", "blue", "␣water", "␣house", "␣green", "␣the", "Blue"],
    "es": ["␣azul", "␣cielo", "␣casa", "␣agua", "azul", "␣verde", "␣color", "␣que", "␣muy", "␣es"],
    "zh": ["蓝色", "天空", "的", "水", "房子"],
    "ar": ["␣أزرق", "السماء", "␣ماء", "␣بيت", "␣لون"],
    "unknown": ["U+200B", "<0xE4>", "␣␣", "↵", "12", ".", "<bos>"],
}
HOSTILE = [
    "</script><script>document.title='run'</script>",
    "<img src=x onerror=\"document.title='run'\">",
    "<b>bold</b>",
    "$x^2$",
    "%{text}",
    "a\u2028b",
    "&lt;&amp;",
    "\"'`",
    "\ud83d",
    "]]>--><!--",
]


def planted_lens(labels, layers=7, k=5, seed=0, words=None, languages=True, like=None):
    """A lens of random stored tokens; `like(layer, pos)` names the language that most of a cell's tokens are of."""
    words = WORDS if words is None else words
    listed = [(text, name) for name, texts in words.items() for text in texts]
    draw = torch.Generator().manual_seed(seed)
    shape = (layers, len(labels))
    pull = torch.zeros(*shape, len(listed))
    if like:
        names = [[like(layer, pos) for pos in range(shape[1])] for layer in range(layers)]
        pull += torch.tensor([[[6.0 * (name == one) for _, one in listed] for name in row] for row in names])
    logits = pull + 2.5 * torch.randn(*shape, len(listed), generator=draw)
    top = logits.log_softmax(-1).topk(k)
    spread = {
        "entropy": 4 * torch.rand(shape, generator=draw),
        "kl_to_final": 9 * torch.rand(shape, generator=draw) ** 3,
    }
    spread["kl_to_final"][-1] = 0
    result = shl.LensResult(
        token_ids=torch.arange(len(labels)),
        labels=tuple(labels),
        vocabulary=tuple((7 + 3 * i, text) for i, (text, _) in enumerate(listed)),
        measured={"top_ids": 7 + 3 * top.indices, "top_logprobs": top.values, **spread},
        provenance=unnamed(),
    )
    if not languages:
        return result
    names = tuple(words)
    weights = torch.zeros(7 + 3 * len(listed), len(names))
    for i, (_, name) in enumerate(listed):
        weights[7 + 3 * i, names.index(name)] = 1
    return result.with_languages(shl.LanguageTable(names, weights, "planted"))
