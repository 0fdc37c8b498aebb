"""A job of an experiment on a model, with settings by name."""

from semhub_lens.experiments.job import Job, RunSettings


def job_on(model, n, seed=0, *, reader=None, store=None, progress=False, **settings):
    kept = {} if store is None else {"store": store}
    return Job(model=model, settings=RunSettings(n=n, seed=seed, **settings), reader=reader, progress=progress, **kept)
