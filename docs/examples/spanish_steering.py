"""Steer Spanish continuations with the English pair "Good" / "Bad".

Dose response, sign flip and random directions of the same norm, on Gemma 3 270M (offline; a few minutes on two cores):

    python docs/examples/spanish_steering.py

Layers, strengths and scores were fixed before the first run. Whatever comes out is the result.
"""

import sys
from pathlib import Path

import semhub_lens as shl
from semhub_lens.data.text.openings import openings
from semhub_lens.data.text.texts import BUNDLED, sentences

ITEMS, LAYERS, STRENGTHS = 16, (6, 12), (1.0, 2.0, 4.0)


def main(page: Path) -> None:
    model = shl.load("gemma-3-270m")
    chosen = openings("es")[:ITEMS]
    prompts = [opening.prompt for opening in chosen]

    def score(written: shl.Generation) -> dict:
        texts = [opening.text + text for opening, text in zip(chosen, written.texts, strict=True)]
        return {
            "sentiment": shl.likelihood_sentiment(model, texts, "es", progress=False),
            "Spanish": shl.language_of(texts)[:, BUNDLED.index("es")],
        }

    everywhere = shl.adding(model, positions=None)
    measure = shl.steering_scores.together(
        shl.steering_scores.continuations(model, prompts, score, max_new_tokens=16, progress=False),
        shl.steering_scores.damage(model, sentences()["en"][:ITEMS], items=ITEMS, progress=False),
    )
    found = shl.sweep(
        model,
        measure,
        lambda layer: shl.direction.words(model, "Good", "Bad", layer),
        LAYERS,
        STRENGTHS,
        recipe=everywhere,
        controls=shl.Controls(random=2, last_layer=False),
        damage=["KL to clean"],
    )
    means = found.to_frame().groupby(["condition", "layer", "strength"], dropna=False).mean(numeric_only=True)
    print(means.drop(columns="item").round(3).to_string())
    print(found.choose("sentiment"))
    for layer in LAYERS:
        vector = shl.direction.words(model, "Good", "Bad", layer)
        for strength in (-STRENGTHS[-1], 0.0, STRENGTHS[-1]):
            hooks = everywhere(vector, strength, layer)
            text = shl.generate(model, prompts[0], hooks=hooks, max_new_tokens=16, progress=False).texts[0]
            print(f"layer {layer}, strength {strength:+g}: {chosen[0].text} | {text!r}")
    print("figure:", shl.write_html(found, page))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "spanish_steering.html"))
