"""What a model is trained for: its loss and its metrics."""

from sweepwise.task.classification import Classification
from sweepwise.task.protocol import Means, Task
from sweepwise.task.regression import Regression
from sweepwise.task.select import task_of

__all__ = ["Classification", "Means", "Regression", "Task", "task_of"]
