"""Translators of Gemma 3 270M to package, and what a translator trained on English does to other languages.

    python docs/examples/translators.py FOLDER packaged
    python docs/examples/translators.py FOLDER comparison

The first trains a set to package, on all bundled sentences and passages in five languages. The second trains two sets
on the same number of states, of English alone and of five languages. It compares them on texts that neither saw: KL to
the final distribution, and the share of English in what is read. Killed, both go on where they were.
"""

import sys
from pathlib import Path

import torch

import semhub_lens as shl
from semhub_lens.base.rng import generator
from semhub_lens.data.text.texts import BUNDLED, passages, sentences
from semhub_lens.evidence.stats import bootstrap_mean
from semhub_lens.lens.kernel import reduce_logits
from semhub_lens.model.capture import prompt_states
from semhub_lens.model.resolve import as_prompts

HELD = 28
"""Rows (a text and its translations) that the two sets of the comparison do not see."""
STATES = 1800
LAYERS = (6, 9, 12, 15)


def trained(model, name, texts, folder, layers=None, **settings):
    path = folder / f"{name}.safetensors"
    if not path.exists():
        setup = shl.TranslatorSetup(rank=128, half=True, **settings)
        shl.train_translators(model, texts, setup=setup, layers=layers, name=name, folder=folder).save(path)
    return shl.Translators.load(path, model)


def model():
    return shl.load("gemma-3-270m", backend="bridge")


def rows():
    return {code: passages()[code] + sentences()[code] for code in BUNDLED}


def compared(model, readers, texts, table):
    """By language and reader: KL and English share `[layer text]`, read at three positions of every text."""
    found = {}
    for language, listed in texts.items():
        prompts, kept = as_prompts(model, listed), [torch.empty(0)] * len(listed)
        for batch in prompt_states(model, prompts):
            for i, states in batch:
                kept[i] = states[:, [len(prompts[i]) * quarter // 4 for quarter in (1, 2, 3)]]
        states = torch.cat(kept, dim=1)
        for name, reader in readers.items():
            read = reduce_logits(reader, states, ["kl_to_final", "mass"], table=table.weights, layers=(*LAYERS, 18))
            english = read["mass"][..., table.languages.index("en")]
            for kind, values in (("kl", read["kl_to_final"]), ("english", english)):
                found[f"{language} {name} {kind}"] = values.unflatten(1, (-1, 3)).mean(-1)
    return found


def packaged(folder):
    made = trained(model(), "translators of five languages", rows(), folder, steps=60, held_states=200)
    print(made.to_frame().to_string(), made.steps, made.keep)


def comparison(folder):
    host, texts = model(), rows()
    order = torch.randperm(len(texts["en"]), generator=generator(1)).tolist()
    seen = {code: [listed[i] for i in order[HELD:]] for code, listed in texts.items()}
    unseen = {code: [listed[i] for i in order[:HELD]] for code, listed in texts.items()}
    readers = {"plain": shl.Readout(host)}
    for name, own in (("English", {"en": seen["en"]}), ("five languages", seen)):
        few = {"steps": 40, "states": STATES, "held_states": 100}
        readers[name] = shl.Readout(host, translator=trained(host, f"small, of {name}", own, folder, LAYERS, **few))
    found = compared(host, readers, unseen, shl.language_table(host))
    torch.save(found, folder / "compared.pt")
    for kind in ("kl", "english"):
        for language in (*BUNDLED, "not English"):
            own = [code for code in BUNDLED if code != "en"] if language == "not English" else [language]
            read = {name: torch.stack([found[f"{code} {name} {kind}"] for code in own]).mean(0) for name in readers}
            read["English - five languages"] = read["English"] - read["five languages"]
            for name, values in read.items():
                mean = bootstrap_mean(values, seed=0)
                told = [
                    f"{m:.3f} [{low:.3f} {high:.3f}]"
                    for m, low, high in zip(mean.mean, mean.low, mean.high, strict=True)
                ]
                print(f"{kind:8}{language:12}{name:26}", *told, flush=True)


if __name__ == "__main__":
    {"packaged": packaged, "comparison": comparison}[sys.argv[2]](Path(sys.argv[1]))
