"""Hooks that change activations, and measurements of what that does.

- `hooks`: `at`, `add`, `replace`, `project_out`, `swap`, `patch`.
- `positions`: which columns a hook changes.
- `direction`: directions from words, prompts, the unembedding.
- `vectors`: steering vectors as files.
- `metric`: what a patch is judged by.
- `grid`: rows that join a batch where they are patched.
- `patching`: `patch_grid`, `attribution_grid`.
- `patch_results`: what they return.
- `concepts`: `concept_patch`.
- `concept_items`: translation prompts for it.
- `patchscope`: `patchscope`, states in the slot of a reading prompt.
- `readings`: reading prompts for it.
- `sweep`: layer x strength, with controls.
- `sweep_result`: what it returns.
- `calibration`: the strength of a given damage.
"""
