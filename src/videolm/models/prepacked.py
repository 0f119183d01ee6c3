"""Linear layers with bfloat16 weights in oneDNN's layout: what ordinary ones give, without laying out each time.

Each weight is laid out when it is first multiplied with, so that a model is ready at once, and what a prompt does not
need is not read from its file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["PrepackedLinear", "lay_out_linears", "prepack_linears", "unpack_linears"]

# So many rows at a time are assumed when the layout is chosen; any number may come.
_ROWS = 64


class PrepackedLinear(nn.Linear):
    """A linear layer for inference on a CPU.

    From the first use on ``weight`` is an opaque tensor in oneDNN's layout, the only copy there is; a state dict, a
    copy and a move to another device or dtype have it as it was, to the bit.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear.in_features, linear.out_features, bias=False, device="meta")
        self._is_due = False
        self.trains_weight = linear.weight.requires_grad
        self.register_parameter("bias", linear.bias)
        self._hold(linear.weight.detach())
        self.train(linear.training)

    def forward(self, input: Tensor) -> Tensor:
        """Map ``[..., in]`` to ``[..., out]``."""
        if self._is_due:
            self.lay_out()
        if not self.weight.is_mkldnn or (torch.is_grad_enabled() and input.requires_grad):
            return functional.linear(input, self.plain_weight(), self.bias)
        product: Tensor = torch.ops.mkldnn._linear_pointwise(input, self.weight, self.bias, "none", [], "")
        return product

    def lay_out(self) -> None:
        """Lay the weight out now; the plain one is let go. Threads that do it at once come to the same."""
        weight = self.weight.data
        if self._is_due and not weight.is_mkldnn:
            with torch.inference_mode(False):  # Gradients may be asked for later.
                packed = torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS)
                self.weight = nn.Parameter(packed, requires_grad=False)
        self._is_due = False

    def plain_weight(self) -> Tensor:
        """The weight ``[out, in]`` in torch's layout; computed anew by each call."""
        return self.weight.data.to_dense() if self.weight.is_mkldnn else self.weight.data

    def plain(self) -> nn.Linear:
        """The ordinary layer again."""
        linear = nn.Linear(self.in_features, self.out_features, bias=False, device="meta")
        linear.weight = nn.Parameter(self.plain_weight(), requires_grad=self.trains_weight)
        linear.register_parameter("bias", self.bias)
        return linear.train(self.training)

    def _hold(self, weight: Tensor) -> None:
        self.weight = nn.Parameter(weight, requires_grad=False)
        self._is_due = _can_pack(weight)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        weight = self.plain_weight()
        if self.bias is not None:
            self.bias = nn.Parameter(fn(self.bias.data), requires_grad=self.bias.requires_grad)
        self._hold(fn(weight))
        return self

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[f"{prefix}weight"] = self.plain_weight()

    def __getstate__(self) -> dict[str, Any]:
        parameters = {**self._parameters, "weight": nn.Parameter(self.plain_weight(), requires_grad=False)}
        return {**self.__dict__, "_parameters": parameters}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._hold(self.weight.data)


def prepack_linears(module: nn.Module) -> None:
    """Let the bfloat16 weights of all linear layers inside ``module`` be laid out for this processor as they are used.

    The plain weight is let go as its layer is laid out, so that nothing is held twice. Weights that something
    else shares (a head that is the table of embeddings), those of other dtypes, other devices and other kinds of layers
    stay as they are. ``unpack_linears`` takes it back.
    """
    users = Counter(id(parameter) for _, parameter in module.named_parameters(remove_duplicate=False))
    paths = [
        path
        for path, layer in module.named_modules()
        if type(layer) is nn.Linear and path and users[id(layer.weight)] == 1 and _can_pack(layer.weight)
    ]
    for path in paths:  # No list of the layers themselves, which would hold their weights.
        module.set_submodule(path, PrepackedLinear(cast(nn.Linear, module.get_submodule(path))))


def lay_out_linears(module: nn.Module) -> None:
    """Lay out now what ``prepack_linears`` left for the first use, one layer after the other."""
    for layer in module.modules():
        if isinstance(layer, PrepackedLinear):
            layer.lay_out()


def unpack_linears(module: nn.Module) -> None:
    """Make the layers that ``prepack_linears`` laid out ordinary ones again, with the same weights."""
    for path, layer in list(module.named_modules()):
        if isinstance(layer, PrepackedLinear):
            module.set_submodule(path, layer.plain())


def _can_pack(weight: Tensor) -> bool:
    """Whether oneDNN multiplies such weights on this processor and rounds as torch does, which is so for bfloat16."""
    return (
        weight.device.type == "cpu"
        and weight.dtype == torch.bfloat16
        and weight.numel() > 0
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
        and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    )
