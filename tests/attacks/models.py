"""Models whose right answers are known."""

import torch
from torch import Tensor, nn


class Affine(nn.Module):
    """Logits W x + b on flattened images; ``weight`` is (K, D)."""

    def __init__(self, classes: int, shape: tuple[int, int, int] = (3, 5, 5), seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        size = shape[0] * shape[1] * shape[2]
        self.weight = nn.Parameter(torch.randn(classes, size, generator=generator))
        self.bias = nn.Parameter(torch.randn(classes, generator=generator) * 0.1)
        # the boundary passes near mid-grey, so that the box is not active
        with torch.no_grad():
            self.bias.sub_(self.weight.sum(1) * 0.5)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = images.flatten(1) @ self.weight.T + self.bias
        return logits

    def distance(self, images: Tensor, labels: Tensor, norm: str) -> Tensor:
        """The exact distance to the nearest other class, (N,): min_k (f_y - f_k) / ||w_k - w_y||_dual."""
        dual = {"linf": 1.0, "l2": 2.0, "l1": float("inf")}[norm]
        logits = self(images).detach()
        gap = logits.gather(1, labels[:, None]) - logits
        width = torch.linalg.vector_norm(self.weight.detach()[labels][:, None] - self.weight.detach(), ord=dual, dim=2)
        ratio: Tensor = gap / width
        return ratio.scatter(1, labels[:, None], float("inf")).amin(1)


def near_grey(n: int, shape: tuple[int, int, int] = (3, 5, 5), seed: int = 1) -> Tensor:
    """Images within 0.1 of mid-grey, (n, *shape)."""
    generator = torch.Generator().manual_seed(seed)
    return 0.5 + 0.2 * (torch.rand(n, *shape, generator=generator) - 0.5)
