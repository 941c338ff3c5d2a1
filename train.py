"""Trains one run, or with -m a sweep of them: python train.py init=xavier scheduler=cosine."""

import hydra
from omegaconf import DictConfig

from sweepwise import cli


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def train(config: DictConfig) -> float:
    """Hands the composed config over."""
    return cli.execute(config)


if __name__ == "__main__":
    cli.main(train)
