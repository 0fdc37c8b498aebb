"""What every room stands on. Nothing here knows a model or draws.

- `errors`: `SemhubError` for what a user can mend, `Unfit` for what a model cannot be measured for.
- `arguments`: `checked`, by which public functions refuse arguments of the wrong kind.
- `results`: `Result`, `Provenance`, `load_result`; result classes and their drawers register here.
- `quantities`: `Quantities`, a result that holds what was asked for.
- `files`: files that appear only when complete.
- `progress`: the progress display of long work.
- `store`: finished parts of a long run, kept on disk.
- `processes`: the processes of one launch, which share a run.
- `fingerprints`: the one home of hashing.
- `json_text`: values as JSON, what is undefined as null.
- `foreign`: the private names of other libraries.
- `shown_text`: text of others, harmless to show.
- `rng`: random draws from explicit seeds.
- `optional_packages`: extras and verified files in them.
- `allocator`: freed memory kept by a command's process.
"""

from semhub_lens.base import progress as progress  # first: see there what the first import of tqdm.auto would say
