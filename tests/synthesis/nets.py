"""Small networks whose answers are known."""

import torch
from torch import Tensor, nn


class Net(nn.Module):
    """A small network with batch normalisation and ReLUs, for pictures of any size."""

    input_size = (3, 24, 24)

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 5, 2, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(16, 5)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(images).mean((2, 3)))
        return logits


class Fixed(Net):
    """The same, for pictures of its input size alone."""

    def forward(self, images: Tensor) -> Tensor:
        if images.shape[1:] != torch.Size(self.input_size):
            raise AssertionError("of another size")
        return super().forward(images)


def pictures(n: int, *size: int, seed: int = 0) -> Tensor:
    """Smooth pictures (n, 3, *size)."""
    height, width = size
    rough = torch.rand(n, 3, max(height // 6, 2), max(width // 6, 2), generator=torch.Generator().manual_seed(seed))
    return nn.functional.interpolate(rough, size, mode="bicubic").clamp(0, 1)
