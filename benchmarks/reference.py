"""Reference loops: the same training as people write it today. Measures training steps per second.

Every public function takes a workload and a number of epochs and returns steps per second of the training
loop: all steps and the validation after each epoch. Imports, data and the building of model and optimizer are
excluded.

    flat_kernel                batches in memory, one flat buffer each for values and gradients, fused kernel
    flat_adam                  the same buffers, stepped by torch.optim.Adam(fused=True)
    plain_fused                batches in memory, torch.optim.Adam(fused=True)
    plain                      the same with torch's default Adam
    dataloader                 plain, fed by a DataLoader
    summary_writer             plain_fused with torch's SummaryWriter, scalars every 10 steps
    summary_writer_histograms  the same, and histograms every 50 steps
    lightning_default          Lightning as it comes
    lightning_bare             Lightning without logger, checkpoint and progress bar
    ignite                     Ignite's supervised trainer and evaluator

`python benchmarks/reference.py w1` trains each once for 30 epochs and prints its final validation accuracy.
"""

import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from time import perf_counter

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from workload import Workload, build

# Loaders validate in batches; the in-memory loops take the whole part at once, which is as fast.
LOADER_VALIDATION_BATCH = 1000
SCALARS_EVERY = 10
HISTOGRAMS_EVERY = 50

Batches = Callable[[], Iterable[tuple[Tensor, Tensor]]]


def _in_memory(workload: Workload) -> Batches:
    x, y = workload.train

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for index in torch.randperm(len(y)).split(workload.batch):
            # index_select: two to three times as fast as x[index] on these sizes
            yield x.index_select(0, index), y.index_select(0, index)

    return batches


def _loaders(workload: Workload) -> tuple[DataLoader, DataLoader]:
    return (
        DataLoader(TensorDataset(*workload.train), batch_size=workload.batch, shuffle=True),
        DataLoader(TensorDataset(*workload.validation), batch_size=LOADER_VALIDATION_BATCH),
    )


@torch.inference_mode()
def _validate(workload: Workload, model: nn.Module) -> tuple[float, float]:
    """Loss and accuracy on the whole validation part, reported to the workload."""
    x, y = workload.validation
    model.eval()
    logits = model(x)
    loss, accuracy = F.cross_entropy(logits, y).item(), (logits.argmax(1) == y).float().mean().item()
    model.train()
    workload.report(loss, accuracy)
    return loss, accuracy


def _train(
    workload: Workload,
    epochs: int,
    model: nn.Module,
    batches: Batches,
    zero_grad: Callable[[], object],
    update: Callable[[], object],
) -> float:
    """The loop of all hand-written contenders, which differ only in what they put into it."""
    start = perf_counter()
    for _ in range(epochs):
        for x, y in batches():
            loss = F.cross_entropy(model(x), y)
            zero_grad()
            loss.backward()
            update()
        _validate(workload, model)
    return epochs * workload.steps_per_epoch / (perf_counter() - start)


def _flatten_(model: nn.Module) -> tuple[nn.Parameter, Tensor]:
    """Move all parameters and gradients into one buffer each; the model keeps views.

    Returns:
        The flat parameter (elements,) and its gradient (elements,), into which backward accumulates.
    """
    parameters = list(model.parameters())
    flat = nn.Parameter(torch.cat([p.detach().flatten() for p in parameters]))
    flat.grad = torch.zeros_like(flat)
    sizes = [p.numel() for p in parameters]
    for p, values, gradient in zip(
        parameters, flat.detach().split(sizes), flat.grad.split(sizes), strict=True
    ):
        p.data = values.view_as(p)
        p.grad = gradient.view_as(p)
    return flat, flat.grad


def flat_kernel(workload: Workload, epochs: int) -> float:
    # Moments of dead units decay into denormals, which slow Adam down by half after some 40 epochs of w1.
    torch.set_flush_denormal(True)
    model = workload.model()
    flat, gradient = _flatten_(model)
    values = flat.detach()
    mean, square, step = torch.zeros_like(values), torch.zeros_like(values), torch.zeros(())

    def update() -> None:
        step.add_(1)
        torch._fused_adam_(
            [values],
            [gradient],
            [mean],
            [square],
            [],
            [step],
            lr=workload.learning_rate,
            beta1=0.9,
            beta2=0.999,
            weight_decay=0.0,
            eps=1e-8,
            amsgrad=False,
            maximize=False,
        )

    return _train(workload, epochs, model, _in_memory(workload), gradient.zero_, update)


def flat_adam(workload: Workload, epochs: int) -> float:
    model = workload.model()
    flat, gradient = _flatten_(model)
    optimizer = torch.optim.Adam([flat], lr=workload.learning_rate, fused=True)
    return _train(workload, epochs, model, _in_memory(workload), gradient.zero_, optimizer.step)


def plain_fused(workload: Workload, epochs: int) -> float:
    model = workload.model()
    optimizer = torch.optim.Adam(model.parameters(), lr=workload.learning_rate, fused=True)
    return _train(workload, epochs, model, _in_memory(workload), optimizer.zero_grad, optimizer.step)


def plain(workload: Workload, epochs: int) -> float:
    model = workload.model()
    optimizer = torch.optim.Adam(model.parameters(), lr=workload.learning_rate)
    return _train(workload, epochs, model, _in_memory(workload), optimizer.zero_grad, optimizer.step)


def dataloader(workload: Workload, epochs: int) -> float:
    model = workload.model()
    optimizer = torch.optim.Adam(model.parameters(), lr=workload.learning_rate)
    loader, _ = _loaders(workload)
    return _train(workload, epochs, model, lambda: loader, optimizer.zero_grad, optimizer.step)


def summary_writer(workload: Workload, epochs: int, histograms: bool = False) -> float:
    """plain_fused with events: scalars every 10 steps and each validation; closing the file is timed.

    Args:
        workload: the training.
        epochs: passes over the training part.
        histograms: every 50 steps, also one histogram of each weight, gradient and activation.
    """
    from torch.utils.tensorboard import SummaryWriter

    model = workload.model()
    optimizer = torch.optim.Adam(model.parameters(), lr=workload.learning_rate, fused=True)
    batches = _in_memory(workload)
    step = 0
    with tempfile.TemporaryDirectory() as folder:
        writer = SummaryWriter(folder)
        start = perf_counter()
        for _ in range(epochs):
            for x, y in batches():
                step += 1
                sampled = histograms and step % HISTOGRAMS_EVERY == 0
                hooks = _record_activations(model, writer, step) if sampled else []
                loss = F.cross_entropy(model(x), y)
                for hook in hooks:
                    hook.remove()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                if step % SCALARS_EVERY == 0:
                    writer.add_scalar("train/loss", loss.item(), step)
                    writer.add_scalar("train/learning_rate", optimizer.param_groups[0]["lr"], step)
                if sampled:
                    for name, parameter in model.named_parameters():
                        writer.add_histogram(f"weights/{name}", parameter, step)
                        writer.add_histogram(f"gradients/{name}", parameter.grad, step)
            validation_loss, accuracy = _validate(workload, model)
            writer.add_scalar("validation/loss", validation_loss, step)
            writer.add_scalar("validation/accuracy", accuracy, step)
        writer.close()
        return step / (perf_counter() - start)


def _record_activations(model: nn.Sequential, writer, step: int) -> list:
    """Hooks for one forward pass: nothing stays attached on a step that is not sampled."""

    def recorder(name: str) -> Callable:
        return lambda _module, _inputs, output: writer.add_histogram(f"activations/{name}", output, step)

    return [module.register_forward_hook(recorder(name)) for name, module in model.named_children()]


def summary_writer_histograms(workload: Workload, epochs: int) -> float:
    return summary_writer(workload, epochs, histograms=True)


def lightning_default(workload: Workload, epochs: int) -> float:
    """Trainer defaults: event files, a checkpoint after each epoch, a progress bar."""
    return _lightning(workload, epochs)


def lightning_bare(workload: Workload, epochs: int) -> float:
    return _lightning(
        workload,
        epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def _lightning(workload: Workload, epochs: int, **options: bool) -> float:
    """Timed from on_train_start to on_train_end: Lightning's set-up and sanity check are excluded."""
    import lightning

    class Classifier(lightning.LightningModule):
        """The module of Lightning's own introduction, with a clock."""

        def __init__(self) -> None:
            super().__init__()
            self.model = workload.model()

        def training_step(self, batch, _index):
            x, y = batch
            loss = F.cross_entropy(self.model(x), y)
            self.log("train/loss", loss)
            return loss

        def validation_step(self, batch, _index):
            x, y = batch
            logits = self.model(x)
            self.log("validation/loss", F.cross_entropy(logits, y))
            self.log("validation/accuracy", (logits.argmax(1) == y).float().mean())

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=workload.learning_rate)

        def on_train_start(self):
            self.start = perf_counter()

        def on_train_end(self):
            self.seconds = perf_counter() - self.start

    with tempfile.TemporaryDirectory() as folder:
        trainer = lightning.Trainer(max_epochs=epochs, accelerator="cpu", default_root_dir=folder, **options)
        module = Classifier()
        trainer.fit(module, *_loaders(workload))
    result = trainer.callback_metrics
    workload.report(result["validation/loss"].item(), result["validation/accuracy"].item())
    return trainer.global_step / module.seconds


def ignite(workload: Workload, epochs: int) -> float:
    from ignite.engine import Events, create_supervised_evaluator, create_supervised_trainer
    from ignite.metrics import Accuracy, Loss

    model = workload.model()
    optimizer = torch.optim.Adam(model.parameters(), lr=workload.learning_rate)
    trainer = create_supervised_trainer(model, optimizer, F.cross_entropy)
    metrics = {"loss": Loss(F.cross_entropy), "accuracy": Accuracy()}
    evaluator = create_supervised_evaluator(model, metrics=metrics)
    train_loader, validation_loader = _loaders(workload)

    @trainer.on(Events.EPOCH_COMPLETED)
    def validate() -> None:
        result = evaluator.run(validation_loader).metrics
        workload.report(result["loss"], result["accuracy"])

    start = perf_counter()
    state = trainer.run(train_loader, max_epochs=epochs)
    return state.iteration / (perf_counter() - start)


HAND_WRITTEN = {loop.__name__: loop for loop in (flat_kernel, flat_adam, plain_fused, plain, dataloader)}
WRITERS = {loop.__name__: loop for loop in (summary_writer, summary_writer_histograms)}
FRAMEWORKS = {loop.__name__: loop for loop in (lightning_default, lightning_bare, ignite)}

if __name__ == "__main__":
    torch.set_num_threads(1)
    workload = build(sys.argv[1])
    for name, loop in (HAND_WRITTEN | WRITERS | FRAMEWORKS).items():
        rate = loop(workload, epochs=30)
        print(f"{name:26}{rate:8.0f} steps/s   validation accuracy {workload.history[-1][1]:.3f}", flush=True)
