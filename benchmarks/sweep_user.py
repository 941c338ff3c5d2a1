"""What users write today: a script under Hydra that trains one run, by a plain loop or by Lightning.

    python benchmarks/sweep_user.py -m init=xavier,kaiming scheduler=constant,cosine seed=0,1 loop=plain

It trains the network of w1 for 20 epochs with Adam, validates after each, and writes scalars to TensorBoard:
the loss of every 20th step, and loss and accuracy after each epoch. benchmarks/sweep.py times it.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig


@dataclass
class Config:
    """What is swept."""

    init: str = "xavier"
    scheduler: str = "constant"
    seed: int = 0
    epochs: int = 20
    loop: str = "plain"


ConfigStore.instance().store(name="config", node=Config)


@hydra.main(version_base="1.3", config_name="config")
def main(config: Config) -> None:
    import torch
    from torch import nn
    from workload import build

    torch.set_num_threads(1)
    workload = build("w1")
    torch.manual_seed(config.seed)
    model = workload.model()
    inits = {
        "xavier": nn.init.xavier_normal_,
        "kaiming": nn.init.kaiming_normal_,
        "lecun": lambda w: nn.init.normal_(w, std=w.shape[1] ** -0.5),
        "orthogonal": nn.init.orthogonal_,
    }
    for module in model:
        if isinstance(module, nn.Linear):
            inits[config.init](module.weight)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    epochs = config.epochs
    factors = {
        "constant": lambda epoch: 1.0,
        "cosine": lambda epoch: 0.5 * (1 + math.cos(math.pi * epoch / epochs)),
        "step": lambda epoch: 0.1 ** (epoch // 10),
        "linear": lambda epoch: 1 - epoch / epochs,
    }
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factors[config.scheduler])
    folder = Path(HydraConfig.get().runtime.output_dir)
    {"plain": plain, "lightning": by_lightning}[config.loop](
        config, workload, model, optimizer, schedule, folder
    )


def plain(config, workload, model, optimizer, schedule, folder) -> None:
    import torch
    from torch.nn import functional
    from torch.utils.tensorboard import SummaryWriter

    x, y = workload.train
    held_x, held_y = workload.validation
    writer = SummaryWriter(folder)
    step = 0
    for _ in range(config.epochs):
        model.train()
        for index in torch.randperm(len(y)).split(workload.batch):
            loss = functional.cross_entropy(model(x[index]), y[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step % 20 == 0:
                writer.add_scalar("train/loss", loss.item(), step)
            step += 1
        schedule.step()
        model.eval()
        with torch.no_grad():
            logits = model(held_x)
            writer.add_scalar("val/loss", functional.cross_entropy(logits, held_y).item(), step)
            writer.add_scalar("val/accuracy", (logits.argmax(1) == held_y).float().mean().item(), step)
    writer.close()


def by_lightning(config, workload, model, optimizer, schedule, folder) -> None:
    import lightning
    from torch.nn import functional
    from torch.utils.data import DataLoader, TensorDataset

    class Classifier(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def training_step(self, batch, _index):
            x, y = batch
            loss = functional.cross_entropy(self.model(x), y)
            self.log("train/loss", loss)
            return loss

        def validation_step(self, batch, _index):
            x, y = batch
            logits = self.model(x)
            self.log("val/loss", functional.cross_entropy(logits, y))
            self.log("val/accuracy", (logits.argmax(1) == y).float().mean())

        def configure_optimizers(self):
            return [optimizer], [schedule]

    trainer = lightning.Trainer(
        max_epochs=config.epochs, accelerator="cpu", default_root_dir=folder, log_every_n_steps=17
    )
    trainer.fit(
        Classifier(),
        DataLoader(TensorDataset(*workload.train), workload.batch, shuffle=True),
        DataLoader(TensorDataset(*workload.validation), 1000),
    )


if __name__ == "__main__":
    main()
