"""Spearman's rank correlation of many short rows, with ties and left-out entries."""

import torch
from torch import Tensor

from assay.explain.variants import NOISE


def spearman(a: Tensor, b: Tensor, *, a_scale: Tensor, b_scale: Tensor, valid: Tensor | None = None) -> Tensor:
    """Rank correlation of each row of ``a`` with that of ``b``, both (N, P): (N,) in [-1, 1].

    Ties share their mean rank. Values within ``NOISE`` of their row's scale (N,) are ties, so float noise cannot
    order what is equal. ``valid`` (N, P) bool says which entries count. NaN where a row of ranks is constant.
    """
    valid = torch.ones_like(a, dtype=torch.bool) if valid is None else valid
    p, q = _centred_ranks(a, NOISE * a_scale, valid), _centred_ranks(b, NOISE * b_scale, valid)
    length = (p.square().sum(1) * q.square().sum(1)).sqrt()
    return torch.where(length > 0, (p * q).sum(1) / length, torch.nan)


def _centred_ranks(values: Tensor, tolerance: Tensor, valid: Tensor) -> Tensor:
    """Mean-free ranks (N, P): half of how many entries lie below minus how many lie above; 0 where not valid."""
    difference = values.double()[:, :, None] - values.double()[:, None, :]
    sign = difference.sign() * (difference.abs() > tolerance[:, None, None])
    return (sign * (valid[:, :, None] & valid[:, None, :])).sum(2) / 2
