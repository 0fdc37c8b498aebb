"""Hooks that change activations, and measurements of their effects.

- `hooks`: `at`, `add`, `replace`, `project_out`, `swap`, `patch`.
- `hook_vectors`: the vectors of hooks.
- `positions`: which columns a hook changes.
- `direction`: directions from words, prompts, the unembedding.
- `vectors`: steering vectors as files.
- `metric`: metrics for patches.
- `grid`: rows that join a batch at the layer of their patch.
- `patching`: `patch_grid`, `attribution_grid`.
- `patch_results`: their results.
- `concepts`: `concept_patch`.
- `concept_items`: translation prompts for it.
- `patchscope`: `patchscope`, states in the slot of a reading prompt.
- `readings`: reading prompts for it.
- `sweep`: layer x strength, with controls.
- `sweep_result`: its result.
- `calibration`: the strength that causes a given damage.
"""
