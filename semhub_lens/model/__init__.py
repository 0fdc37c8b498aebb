"""The host model: the only room that knows which class it is, and the only one that runs it.

- `facts`: what the measurements must know of a model; its `provenance`.
- `weights`: the real weights of offloaded, spread and quantised models.
- `sources`: where the weights of a name lie, what their configuration says, reading them.
- `loading`: `load`.
- `hooked_weights`: what a `HookedTransformer` takes over from a Hugging Face model.
- `packaged`: weights from packages, converted once.
- `gguf_reading`: a GGUF file is read once for all that transformers takes from it.
- `prefix`: a key-value prefix that rows share.
- `resolve`: what a user passes, turned into prompts that fit.
- `rotary`: rotary positions that are scaled by the length of a pass.
- `hooking`: hook names, hooked runs, the window of positions.
- `checks`: which batches and caches a model is verified to run exactly.
- `agreement`: how far a model is from the Hugging Face model whose weights it has.
- `host`: `check`: what a host model is verified to do, as a table.
- `reads`: where a prompt's states are read.
- `batches`: exact batches, halved where the device has no memory for them.
- `capture`: `Capture`, `residual_reads`.
- `stacks`: states of a corpus in the files of a folder, `StateStack`.
- `residual`: `residual_stream`, in memory or to a folder.
- `translators`: `Translators`: maps of states into the last layer's space, as a file; packaged ones.
- `final_norm`: the final norm as the model computes it.
- `readable`: what a read-out can read.
- `readout`: `Readout`: states to logits as the model does it, checked.
- `generation`: `generate`.
- `untrained`: `untrained`: the same shape with random weights.
"""
