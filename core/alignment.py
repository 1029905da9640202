"""How alike two codes of the same pictures are. Rows are pictures; numpy alone, so that reports can use it too."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay.core.errors import AssayError

Array = NDArray[Any]
Gram = NDArray[np.float64]


def linear_cka(codes: Array, others: Array, *, debiased: bool = False) -> float:
    """How alike two codes of the same pictures are, in [0, 1]: 1 up to rotation, scale and shift.

    Linear centred kernel alignment (Kornblith et al. 2019, arXiv:1905.00414, section 3). It grows with dimensions
    over pictures even where nothing is shared: ``debiased`` is the estimate that does not (Song et al. 2007, eq. 5 as
    in Nguyen et al. 2021, arXiv:2010.15327, eq. 3), at most 1, around 0 for unrelated codes; it needs four pictures.
    NaN for codes that are the same for all pictures.
    """
    return float(_cka([codes, others], debiased=debiased)[0, 1])


def likeness(spaces: Sequence[Array]) -> NDArray[np.float64]:
    """Debiased linear CKA of codes of the same pictures, each with each: (M, M)."""
    return _cka(spaces, debiased=True)


def _cka(spaces: Sequence[Array], *, debiased: bool) -> NDArray[np.float64]:
    counts = [len(values) for values in spaces]
    if len(set(counts)) > 1 or min(counts, default=4) < (4 if debiased else 2):
        raise AssayError(f"CKA compares codes of the same pictures, not {' and '.join(map(str, counts))}")
    grams = [_gram(values.astype(np.float64)) for values in spaces]
    product = _unbiased_hsic if debiased else _inner
    norms = [product(gram, gram) for gram in grams]
    table = np.full((len(grams), len(grams)), np.nan)
    for i, gram in enumerate(grams):
        for j, second in enumerate(grams[: i + 1]):
            if norms[i] * norms[j] > 0:
                table[i, j] = table[j, i] = product(gram, second) / np.sqrt(norms[i] * norms[j])
    return table


def _gram(values: Gram) -> Gram:
    values = values - values.mean(0)
    gram: Gram = values @ values.T
    return gram


def _inner(k: Gram, m: Gram) -> float:
    return float(np.vdot(k, m))


def _unbiased_hsic(k: Gram, m: Gram) -> float:
    """The unbiased estimate of HSIC, times n (n - 3)."""
    n = len(k)
    k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
    sums = k.sum(0), m.sum(0)
    total = sums[0].sum() * sums[1].sum() / ((n - 1) * (n - 2))
    return float(np.vdot(k, m) + total - 2 / (n - 2) * (sums[0] @ sums[1]))
