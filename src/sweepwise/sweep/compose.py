"""placeholder until the merge"""

from omegaconf import open_dict


def requests(loader, config, jobs):
    from sweepwise.cli import _request

    found = []
    for job in jobs:
        c = loader.load_sweep_config(config, list(job))
        choices = dict(c.hydra.runtime.choices)
        over = list(c.hydra.overrides.task)
        with open_dict(c):
            del c["hydra"]
        found.append(_request(c, over, choices))
    return found
