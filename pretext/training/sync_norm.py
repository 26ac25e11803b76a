"""Batch norm whose statistics are those of all processes' rows together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def shared_statistics(module: nn.Module, device: torch.device) -> Iterator[None]:
    """While it lasts, every batch norm in a module normalises by the statistics of all processes' rows.

    The layers that stand in share parameters and buffers with the module's own, which are put back at the end. All
    processes must run the module in train mode at the same time; in eval mode nothing is exchanged.

    Args:
        module: On `device`.
        device: On CUDA torch's own `SyncBatchNorm` stands in, which takes nothing else; elsewhere `SyncNorm`.
    """
    kind = nn.SyncBatchNorm if device.type == "cuda" else SyncNorm
    found = [(parent, name, child) for parent in module.modules() for name, child in parent.named_children()
             if isinstance(child, nn.BatchNorm2d)]  # fmt: skip
    for parent, name, child in found:
        own = kind(child.num_features, eps=child.eps, momentum=child.momentum, device="meta").train(child.training)
        own._parameters, own._buffers = child._parameters, child._buffers
        setattr(parent, name, own)
    try:
        yield
    finally:
        for parent, name, child in found:
            child.train(getattr(parent, name).training)
            setattr(parent, name, child)


class SyncNorm(nn.BatchNorm2d):
    """Batch norm over all processes' rows, of which each may have another number; images (B, C, H, W), any device.

    Reference: Ioffe, Szegedy 2015, arXiv:1502.03167; moments are combined as in Chan, Golub, LeVeque 1983.
    """

    def forward(self, input_BCHW: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input_BCHW)
        output_BCHW, mean_C, var_C, count = _Normalize.apply(input_BCHW, self.weight, self.bias, self.eps)
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean_C, share)
            self.running_var.lerp_(var_C * (count / max(count - 1, 1)), share)
        return output_BCHW


class _Normalize(torch.autograd.Function):
    """One exchange forward, of every process's moments, and one backward, of two sums a channel."""

    @staticmethod
    def forward(ctx: Any, input_BCHW: Tensor, weight_C: Tensor, bias_C: Tensor, eps: float) -> Any:
        import torch.distributed as dist

        values = input_BCHW.float()
        var_C, mean_C = torch.var_mean(values, (0, 2, 3), correction=0)
        number = torch.full_like(mean_C, values.numel() // len(mean_C))
        own_3C = torch.stack([number, mean_C, var_C]).double()
        all_R3C = [torch.empty_like(own_3C) for _ in range(dist.get_world_size())]
        dist.all_gather(all_R3C, own_3C)
        number_RC, mean_RC, var_RC = torch.stack(all_R3C).unbind(1)
        count = float(number_RC[:, 0].sum())
        mean_C = (number_RC * mean_RC).sum(0) / count
        var_C = (number_RC * (var_RC + (mean_RC - mean_C).square())).sum(0) / count
        mean_C, var_C = mean_C.float(), var_C.float()
        scale_C = (var_C + eps).rsqrt()
        unit_BCHW = (values - mean_C[:, None, None]) * scale_C[:, None, None]
        ctx.save_for_backward(unit_BCHW, scale_C, weight_C)
        ctx.count = count
        ctx.mark_non_differentiable(mean_C, var_C)
        output_BCHW = unit_BCHW * weight_C[:, None, None] + bias_C[:, None, None]
        return output_BCHW.to(input_BCHW.dtype), mean_C, var_C, count

    @staticmethod
    def backward(ctx: Any, grad_BCHW: Tensor, *unused: Any) -> Any:
        import torch.distributed as dist

        unit_BCHW, scale_C, weight_C = ctx.saved_tensors
        values = grad_BCHW.float()
        bias_C, slope_C = values.sum((0, 2, 3)), (values * unit_BCHW).sum((0, 2, 3))
        mean_2C = torch.stack([bias_C, slope_C])
        dist.all_reduce(mean_2C)
        mean_2C = mean_2C / ctx.count
        centred_BCHW = values - mean_2C[0, :, None, None] - unit_BCHW * mean_2C[1, :, None, None]
        input_BCHW = centred_BCHW * (scale_C * weight_C)[:, None, None]
        return input_BCHW.to(grad_BCHW.dtype), slope_C, bias_C, None
