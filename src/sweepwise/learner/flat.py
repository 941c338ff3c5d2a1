"""All parameters of a model in one flat row, weights first, with the model's own tensors as views of it.

One kernel then penalises the weights, copies the best ones or measures an update, however many layers there
are. Gradients stay the tensors that the backward pass makes, since copying them into a row would cost a pass
over all of them; the row of gradients is filled only when something needs it.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from sweepwise.learner.passes import JointPass

NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


class Layout:
    """The position of each tensor in a flat row: the weights, then biases and norm gains.

    Args:
        weights: shapes of the weights, by parameter name.
        rest: shapes of the other parameters, by name.

    Attributes:
        names: of the parameters in the order of the row, weights first.
        weight_names: of the weight tensors among them.
        shapes: of each tensor, in that order.
        weights: number of the row's elements that are weights.
        ready_order: the order in which gradients are ready, see `ddp.joint_pass`; empty if nobody asks.
    """

    def __init__(self, weights: Mapping[str, torch.Size], rest: Mapping[str, torch.Size]) -> None:
        self.names = [*weights, *rest]
        self.weight_names = list(weights)
        self.shapes = [*weights.values(), *rest.values()]
        self.weights = sum(shape.numel() for shape in weights.values())
        self.ready_order: list[int] = []
        self._sizes = [shape.numel() for shape in self.shapes]

    def views(self, row: Tensor) -> dict[str, Tensor]:
        """Each tensor's part of a row, in its own shape."""
        parts = row.view(-1).split_with_sizes(self._sizes)
        return {
            name: part.view(shape) for name, shape, part in zip(self.names, self.shapes, parts, strict=True)
        }

    def weight_parts(self, rows: Tensor) -> list[Tensor]:
        """The part of each weight tensor, (runs, size), in rows."""
        return list(rows.split_with_sizes(self._sizes, 1)[: len(self.weight_names)])

    def copied_into(self, tensors: Sequence[Tensor], row: Tensor) -> list[Tensor]:
        """Copies tensors into a row; returns them as views of it."""
        torch.cat([tensor.reshape(-1) for tensor in tensors], out=row[0])
        return list(self.views(row).values())


class FlatParameters(Layout):
    """Moves a model's trainable parameters into one buffer.

    `ShardedParameters` has the same methods for one of several processes that each have a part of every
    parameter. A method marked 'Together' must be called by all processes, in the same order.

    Attributes:
        values: (1, parameters) weights first, then biases and norm gains.
        gradient: (1, parameters), as of the last `collect`.
        all_weights: number of the model's elements that are weights, which decay and are penalised.
        parameters: the model's own, in the order of the row.

    Raises:
        ValueError: the parameters differ in dtype or device, or there are none.
    """

    def __init__(self, model: nn.Module) -> None:
        weights, rest = trainable(model)
        super().__init__(shapes_of(weights), shapes_of(rest))
        self._model = model
        self.all_weights = self.weights
        self.parameters = [*weights.values(), *rest.values()]
        self.values = torch.cat([p.detach().reshape(-1) for p in self.parameters])[None]
        self.gradient = torch.zeros_like(self.values)
        for parameter, value in zip(self.parameters, self.views(self.values).values(), strict=True):
            parameter.data = value
            parameter.grad = None
        self._places = [parameter.data_ptr() for parameter in self.parameters]
        self._used: set[int] | None = None  # by this process's last pass; None: gradients are of it alone

    def move_(self, values: Tensor, gradient: Tensor) -> None:
        """Moves the parameters into another buffer; their gradients become views of one, too.

        Args:
            values: (1, parameters), receives their current values.
            gradient: (1, parameters).
        """
        values.copy_(self.values)
        self.values, self.gradient = values, gradient
        parts = zip(self.views(values).values(), self.views(gradient).values(), strict=True)
        for parameter, (value, part) in zip(self.parameters, parts, strict=True):
            parameter.data, parameter.grad = value, part
        self._places = [parameter.data_ptr() for parameter in self.parameters]

    @torch.no_grad()
    def rejoin_(self) -> None:
        """Takes parameters into the row again to which the model gave other memory: `weight.data = ...`."""
        if [parameter.data_ptr() for parameter in self.parameters] == self._places:
            return
        for parameter, value in zip(self.parameters, self.views(self.values).values(), strict=True):
            if parameter.data_ptr() != value.data_ptr():
                parameter.data = value.copy_(parameter)

    def begin_(self) -> None:
        """Together: prepares the first pass of all; from now on no process may call the model alone."""

    def joint_pass(self, trial: Callable[[Callable[..., Tensor]], None]) -> JointPass:
        """Together: the forward pass of several processes, each with its share of a batch.

        Args:
            trial: takes a forward pass (model's pass, x), and goes forward and backward through it.
        """
        from sweepwise.learner.parallel.ddp import joint_pass  # imports torch.distributed

        joint, self.ready_order = joint_pass(self._model, self.parameters, trial, self.ready_order)
        self._used = used = set[int]()

        def hook_of(number: int) -> Callable[[Tensor | None], None]:
            return lambda gradient: None if gradient is None else used.add(number)

        for number, parameter in enumerate(self.parameters):
            parameter.register_hook(hook_of(number))
        return joint

    def forget_gradients(self) -> None:
        """Clears the gradients before a backward pass, so that it need not add to them."""
        for parameter in self.parameters:
            parameter.grad = None
        if self._used:
            self._used.clear()

    def absent(self) -> list[int]:
        """The numbers of the parameters that the last pass of this process does not use, or has frozen."""
        if self._used is None:
            return [number for number, parameter in enumerate(self.parameters) if parameter.grad is None]
        return [number for number in range(len(self.parameters)) if number not in self._used]

    def gradients(self) -> list[Tensor]:
        """The gradients of the last backward pass, in the order of the row; zeros where it made none."""
        return [g if (g := p.grad) is not None else torch.zeros_like(p) for p in self.parameters]

    def collect(self, gradients: Sequence[Tensor]) -> list[Tensor]:
        """Copies gradients into the row `gradient`; returns them as views of it."""
        return self.copied_into(gradients, self.gradient)

    def norms(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Together: the Euclidean norm of each tensor."""
        return list(map(torch.linalg.vector_norm, tensors))

    def row_norms(self, rows: Tensor) -> Tensor:
        """Together: the Euclidean norm of each row, (runs, 1)."""
        return torch.linalg.vector_norm(rows, dim=1, keepdim=True)

    def sum_over_processes(self, sums: Sequence[Tensor]) -> list[Tensor]:
        """Together: sums over the whole row, from the sums over this process's part of it."""
        return list(sums)

    def gather_tensors(self, tensors: Sequence[Tensor]) -> dict[str, Tensor]:
        """Together: whole tensors by name, from parts in the order of the row; in rank 0, for monitors."""
        return dict(zip(self.names, tensors, strict=True))

    def to_gathered_device(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Other tensors, moved to the device of those that `gather_tensors` returns."""
        return tensors

    def gather_row_by_name(self, row: Tensor) -> dict[str, Tensor]:
        """Together: the whole tensors of a row by name; in rank 0, as copies on the CPU."""
        return {name: view.to("cpu", copy=True) for name, view in self.views(row).items()}

    def local_parts(self, whole: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """This process's parts of whole tensors, by name; tensors that are not in the row stay whole."""
        return whole

    def gather_row(self, part: Tensor, first: int) -> Tensor:
        """Together: the whole of a row laid out like `values` from its element `first` on; in rank 0."""
        return part

    def local_row(self, whole: Tensor, first: int) -> Tensor:
        """The reverse of `gather_row`."""
        return whole


def trainable(model: nn.Module) -> tuple[dict[str, nn.Parameter], dict[str, nn.Parameter]]:
    """A model's trainable parameters by name: its weights, and the rest.

    Raises:
        ValueError: they differ in dtype or device, are not real numbers, or there are none.
    """
    weights: dict[str, nn.Parameter] = {}
    rest: dict[str, nn.Parameter] = {}
    seen: set[int] = set()
    for path, module in model.named_modules():
        for name, parameter in module.named_parameters(path, recurse=False):
            if parameter.requires_grad and id(parameter) not in seen:
                seen.add(id(parameter))
                (weights if is_weight(module, parameter) else rest)[name] = parameter
    _refuse_mixed(weights | rest)
    return weights, rest


def _refuse_mixed(parameters: Mapping[str, nn.Parameter]) -> None:
    """Refuses parameters that cannot lie in one row."""
    rule = "model: must have trainable parameters, all of one dtype and on one device"
    kinds = {
        (p.dtype, p.device): f"{name} is {str(p.dtype).removeprefix('torch.')} on {p.device}"
        for name, p in parameters.items()
    }
    if not kinds:
        raise ValueError(f"{rule}, and has none")
    if len(kinds) > 1:
        raise ValueError(f"{rule}, and {', '.join(kinds.values())}; use model.float() or model.to(device)")
    ((dtype, _),) = kinds
    if not dtype.is_floating_point:
        raise ValueError(
            f"model: must have parameters that are real numbers, and {kinds.popitem()[1]}; keep real and "
            "imaginary parts, and put them together by torch.complex in the pass"
        )


def shapes_of(tensors: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    """The shapes of tensors, by name."""
    return {name: tensor.shape for name, tensor in tensors.items()}


def is_weight(module: nn.Module, parameter: Tensor) -> bool:
    """Whether a parameter is a weight, which decays: a matrix or kernel, not a bias, norm gain or scalar."""
    return parameter.ndim >= 2 and not isinstance(module, NORMS)
