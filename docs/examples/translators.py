"""The packaged translators of Gemma 3 270M, and what a translator that was trained on English does to other languages.

    python docs/examples/translators.py FOLDER

trains three sets: one on all bundled sentences and passages in five languages, which is what the package ships; and
two on the same number of states, of English alone and of five languages. The last two are compared on texts that
neither saw: KL to the final distribution, and the share of English in what is read. Some half an hour on one core;
killed, it goes on where it was. The figures on docs/methods/translators.md are its output.
"""

import json
import sys
from pathlib import Path

import torch

import semhub_lens as shl
from semhub_lens.base.rng import generator
from semhub_lens.data.text.texts import BUNDLED, passages, sentences
from semhub_lens.lens.kernel import reduce_logits
from semhub_lens.model.capture import prompt_states
from semhub_lens.model.resolve import as_prompts

HELD = 28
"""Rows (a text and its translations) that the two sets of the comparison do not see."""
STATES = 1800
LAYERS = range(0, 19, 2)


def trained(model, name, texts, folder, **settings):
    path = folder / f"{name}.safetensors"
    if not path.exists():
        setup = shl.TranslatorSetup(rank=128, half=True, **settings)
        shl.train_translators(model, texts, setup=setup, name=name, folder=folder, progress=True).save(path)
    return shl.Translators.load(path, model)


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
            read = reduce_logits(
                reader, states, ["kl_to_final", "mass"], table=table.weights, layers=LAYERS, progress=True
            )
            english = read["mass"][..., table.languages.index("en")]
            for kind, values in (("kl", read["kl_to_final"]), ("english", english)):
                found[f"{language} {name} {kind}"] = values.unflatten(1, (-1, 3)).mean(-1)
    return found


def main(folder):
    model = shl.load("gemma-3-270m", backend="bridge")
    rows = {code: passages()[code] + sentences()[code] for code in BUNDLED}
    own = trained(model, "translators of five languages", rows, folder, steps=60, held_states=200)
    print(own.to_frame().to_string(), own.steps, flush=True)
    order = torch.randperm(len(rows["en"]), generator=generator(1)).tolist()
    seen = {code: [listed[i] for i in order[HELD:]] for code, listed in rows.items()}
    unseen = {code: [listed[i] for i in order[:HELD]] for code, listed in rows.items()}
    few = {"steps": 40, "states": STATES, "held_states": 100}
    readers = {"plain": shl.Readout(model)}
    for name, texts in (("English", {"en": seen["en"]}), ("five languages", seen)):
        made = trained(model, f"small, of {name}", texts, folder, **few)
        print(name, made.steps, made.kl.nanmean(-1).T.tolist(), flush=True)
        readers[name] = shl.Readout(model, translator=made)
    found = compared(model, readers, unseen, shl.language_table(model))
    torch.save(found, folder / "compared.pt")
    print(json.dumps({key: [round(v, 4) for v in values.mean(1).tolist()] for key, values in found.items()}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
