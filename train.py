"""Trains one run, or with -m a sweep of them: python train.py init=xavier scheduler=cosine."""

try:
    import hydra
    from omegaconf import DictConfig

    from sweepwise import cli
except KeyboardInterrupt:  # later ones are answered by cli.main
    raise SystemExit(130) from None


@hydra.main(config_path="conf", config_name="train", **cli.BASE)
def train(config: DictConfig) -> float:
    """Hands the composed config over."""
    return cli.execute(config)


if __name__ == "__main__":
    cli.main(train)
