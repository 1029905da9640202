"""The lecture's two templates, which timm does not have."""

from torch import Tensor, nn
from torch.nn import functional as F


class Linear(nn.Sequential):
    """One weight picture per class: logits = W x + b."""

    def __init__(self, num_classes: int, size: int = 96) -> None:
        super().__init__(nn.Flatten(), nn.Linear(3 * size * size, num_classes))


class MLP(nn.Module):
    """Two hidden layers on the picture averaged down to 32x32."""

    def __init__(self, num_classes: int, size: int = 96, hidden: int = 256) -> None:
        super().__init__()
        self.factor = size // 32
        self.layers = nn.Sequential(
            nn.Linear(3 * 32 * 32, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layers(F.avg_pool2d(x, self.factor).flatten(1))
        return logits
