"""PyTorch's Linear with our forward and backward.

The order of operations is that of the layers' products (csrc/kernels/generic/training.h), each row a step of one
sequence: y starts from the bias and adds up inputs in their order, x's derivative outputs in theirs, and those of the
weight and the bias are sums over segments of 256 rows, the last rows first.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .autograd import TrainedModule, check_float32, refuse_transforms, takes_pytorchs, warn_of_autocast
from .differentiable import affine
from .operators import is_watched


class Linear(TrainedModule, nn.Linear):
    """``torch.nn.Linear``, trained and run by fusedcell: y = x W^T + b.

    The parameters, their initialisation and the state dictionary are PyTorch's. Results and derivatives have the same
    bits on every tier and with any number of threads, which PyTorch's have not.

    Args:
        in_features: I, the last dimension of x.
        out_features: O, the last dimension of y.
        bias: Whether there is a b.
        device: None or the CPU.
        dtype: None or torch.float32.
        num_threads: Threads that a call may use at most.

    Shapes:
        x is (..., I) and y (..., O), both float32 on the CPU.

    Raises:
        TypeError: a call's x, or a parameter, is not float32 on the CPU.
        ValueError: x does not end in I.
        RuntimeError: second derivatives, or a transform of torch.func.

    Example:
        >>> head = Linear(32, 1)
        >>> head(torch.zeros(16, 50, 32)).shape
        torch.Size([16, 50, 1])
    """

    def forward(self, input: Tensor) -> Tensor:
        """Returns y. Under torch.autocast it is float32 all the same. What is compiled or exported has an operator of
        ours, as that of a layer has."""
        refuse_transforms()
        if takes_pytorchs(self):
            return nn.Linear.forward(self, input)
        if torch.is_autocast_enabled("cpu"):
            warn_of_autocast()
            input = input.float()
        weight, bias = self.weight, self.bias
        for name, tensor in (("input", input), ("weight", weight), ("bias", bias)):
            if tensor is not None:
                check_float32(name, tensor)
        if input.dim() == 0 or input.shape[-1] != self.in_features:
            raise ValueError(f"input: expected a last dimension of {self.in_features}, got shape {tuple(input.shape)}")
        rows = input.reshape(math.prod(input.shape[:-1]), self.in_features)
        y = affine(rows, weight, bias, self.num_threads, watched=is_watched(input))
        return y.view(*input.shape[:-1], self.out_features)
