"""The host model: only this room runs it, and only this room knows its class.

- `facts`: facts about a model that measurements need; its `provenance`.
- `weights`: the real weights of offloaded, spread and quantised models.
- `sources`: the weights and the configuration behind a name.
- `loading`: `load`.
- `hooked_weights`: weights of a Hugging Face model for a `HookedTransformer`.
- `packaged`: weights from packages, converted once.
- `gguf_reading`: reads a GGUF file only once.
- `prefix`: a key-value prefix that rows share.
- `resolve`: turns user input into prompts that fit the model.
- `rotary`: rotary positions that are scaled by the length of a pass.
- `hooking`: hook names, hooked runs, the window of positions.
- `checks`: the batches and caches that a model runs exactly.
- `agreement`: the deviation of a model from its Hugging Face model.
- `host`: `check`: the checks of a host model as a table.
- `reads`: the positions at which states are read.
- `batches`: exact batches, halved if the device runs out of memory.
- `capture`: `Capture`, `residual_reads`.
- `stacks`: states of a corpus in the files of a folder, `StateStack`.
- `residual`: `residual_stream`, in memory or to a folder.
- `translators`: `Translators`: maps from states to the last layer's space; packaged ones.
- `final_norm`: the final norm as the model computes it.
- `readable`: what a read-out can read.
- `products`: the product of states and unembedding.
- `readout`: `Readout`: states to logits as the model computes them, checked.
- `generation`: `generate`.
- `untrained`: `untrained`: a model of the same shape with random weights.
"""
