"""Networks as people write them, for flat features; in a plain torch loop each of them trains."""

import torch
from torch import nn


class Net(nn.Module):
    """Two layers; the others say what is added between them."""

    def __init__(self, features, outputs, width=16):
        super().__init__()
        self.a, self.b = nn.Linear(*features, width), nn.Linear(*features, width)
        self.head = nn.Linear(width, outputs)

    def forward(self, x):
        return self.head(torch.tanh(self.a(x)) + self.other(x))

    def other(self, x):
        return torch.tanh(self.b(x))


class Joins(Net):
    """A branch takes part only after some passes, which a buffer counts."""

    joins = True

    def __init__(self, features, outputs):
        super().__init__(features, outputs)
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def other(self, x):
        self.seen += self.training
        return super().other(x) if bool(self.seen > 8) is self.joins else 0


class Leaves(Joins):
    """A branch takes part only at first."""

    joins = False


class Calls(Net):
    """As `Joins`, but a number counts, of which torch knows nothing."""

    def __init__(self, features, outputs):
        super().__init__(features, outputs)
        self.calls, self.log = 0, []

    def other(self, x):
        self.calls += self.training
        self.log.append(len(x))
        return super().other(x) if self.calls > 7 and len(self.log) > 7 else 0


class Freezes(Joins):
    """Branches are not trained for some passes, the head not in the first ones."""

    def other(self, x):
        self.seen += self.training
        self.b.requires_grad_(not 4 <= int(self.seen) < 9)
        self.head.requires_grad_(int(self.seen) > 3)
        return torch.tanh(self.b(x))


class Routed(Net):
    """Chooses experts by the example, so each process may use others."""

    def __init__(self, features, outputs):
        super().__init__(features, outputs)
        self.experts = nn.ModuleList(nn.Linear(16, 16) for _ in range(20))

    def other(self, x):
        hidden = super().other(x)
        which = (x.abs().sum(1) * 1000).long() % len(self.experts)
        mixed = torch.zeros_like(hidden)
        for k in which.unique().tolist():
            mixed[which == k] = self.experts[k](hidden[which == k])
        return torch.tanh(mixed)


class Teacher(Net):
    """A layer without gradient follows another one."""

    def __init__(self, features, outputs):
        super().__init__(features, outputs)
        self.b.requires_grad_(False)

    def other(self, x):
        if self.training:
            with torch.no_grad():
                for slow, fast in zip(self.b.parameters(), self.a.parameters(), strict=True):
                    slow.lerp_(fast, 0.1)
        return super().other(x)


class Normed(Net):
    """Keeps the rows of a trained weight at length 1, by giving it other memory."""

    def other(self, x):
        self.b.weight.data = nn.functional.normalize(self.b.weight.data, dim=1)
        return super().other(x)


class Clamped(Net):
    """Keeps a trained weight small, in place."""

    def other(self, x):
        self.b.weight.data.clamp_(-0.05, 0.05)
        return super().other(x)


class Grows(Net):
    """A table is made longer when a larger batch comes; each process has a share of another size."""

    def __init__(self, features, outputs):
        super().__init__(features, outputs)
        self.register_buffer("table", torch.ones(1, 16), persistent=False)

    def other(self, x):
        if len(self.table) < len(x):
            self.table = torch.ones(len(x), 16, dtype=x.dtype)
        return super().other(x) * self.table[: len(x)]


class Forces(Net):
    """Answers with the gradient of an energy, as models of molecules do."""

    @torch.enable_grad()
    def other(self, x):
        x = x.clone().requires_grad_()
        energy = torch.tanh(self.b(x)).square().sum()
        (forces,) = torch.autograd.grad(energy, x, create_graph=True)
        return forces.sum(1, keepdim=True)


class Codebook(Net):
    """Codes follow the mean of the examples of a batch, which no gradient does."""

    def __init__(self, features, outputs):
        super().__init__(features, outputs)
        self.codes = nn.Parameter(torch.zeros(16), requires_grad=False)
        self.register_buffer("mean", torch.zeros(16))

    def other(self, x):
        hidden = super().other(x)
        if self.training:
            self.codes.data = 0.9 * self.codes.data + 0.1 * hidden.detach().mean(0)
            self.mean += hidden.detach().mean(0)
        return hidden - self.codes + torch.tanh(self.mean)


class Thaws(Joins):
    """A branch begins to learn later, though it was frozen when the model was built."""

    def __init__(self, features, outputs):
        super().__init__(features, outputs)
        self.b.requires_grad_(False)

    def other(self, x):
        self.seen += self.training
        self.b.requires_grad_(bool(self.seen > 3))
        return torch.tanh(self.b(x))
