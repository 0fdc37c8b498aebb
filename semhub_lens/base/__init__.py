"""The foundation of every room: no models, no plots.

- `errors`: `SemhubError` for what a user can fix, `Unfit` for what cannot be measured on a model.
- `arguments`: `checked`, with which public functions refuse arguments of the wrong type.
- `ambient`: settings of torch for the whole process, kept out of the numbers.
- `results`: `Result`, `Provenance`, `load_result`; result classes and their drawing functions register here.
- `quantities`: `Quantities`, a result with the quantities that were requested.
- `files`: files that appear only when complete.
- `progress`: the progress display of long work.
- `store`: finished parts of a long run, kept on disk.
- `processes`: the processes of one launch, which share a run.
- `fingerprints`: all hashing.
- `json_text`: values as JSON, undefined ones as null.
- `foreign`: private names of other libraries.
- `shown_text`: text from outside, made safe to display; the fields of a result in one line.
- `rng`: random draws from explicit seeds.
- `optional_packages`: extras and verified files in them.
- `allocator`: keeps freed memory in a command's process, or returns it.
"""

from semhub_lens.base import progress as progress  # first: see there what the first import of tqdm.auto would say
