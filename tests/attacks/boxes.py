"""What a change inside a box can do to a margin, and a network that can be fooled."""

import torch
from torch import Tensor, nn

from tests.attacks.models import Affine, near_grey


def most(size: Tensor, images: Tensor, weight: Tensor, norm: str) -> Tensor:
    """The largest <weight, d> with |d| = size and images + d in the box: by the values in L1, bisection in L2."""
    gain = weight.abs().flatten(1)
    free = torch.where(weight > 0, 1 - images, images).flatten(1)
    size = size[:, None]
    if norm == "linf":
        return (gain * torch.minimum(size, free)).sum(1)
    if norm == "l1":
        found = torch.zeros_like(size)
        for i, order in enumerate(gain.argsort(1, descending=True)):
            left = size[i, 0]
            for j in order:
                used = torch.minimum(left, free[i, j])
                found[i], left = found[i] + used * gain[i, j], left - used
        return found[:, 0]
    low, high = torch.zeros_like(size), torch.full_like(size, 1e4)
    for _ in range(100):
        middle = (low + high) / 2
        short = torch.minimum(middle * gain, free).norm(dim=1, keepdim=True) < size
        low, high = torch.where(short, middle, low), torch.where(short, high, middle)
    return (gain * torch.minimum(low * gain, free)).sum(1)


def network(classes: int = 10, shape: tuple[int, int, int] = (3, 5, 5)) -> nn.Module:
    """Two layers with random weights; the bends of the first all pass near mid-grey, where no class prevails."""
    torch.manual_seed(0)
    size = shape[0] * shape[1] * shape[2]
    first, last = nn.Linear(size, 64), nn.Linear(64, classes)
    grey = torch.full((1, size), 0.5)
    with torch.no_grad():
        first.bias.sub_(first(grey)[0])
        first.bias.add_(0.1 * torch.randn(64))
        last.weight.mul_(100)
        last.bias.sub_(last(first(grey).relu())[0])
    return nn.Sequential(nn.Flatten(), first, nn.ReLU(), last).eval()


def cornered(n: int = 50) -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    """A two-class affine model, images all over the box and of class 0, its lead, and the weight of class 1 over 0.

    The way to class 1 leads many values to a face of the box.
    """
    model, images = Affine(2, seed=4), (near_grey(n) - 0.4) * 5
    with torch.no_grad():
        model.bias[0] += 20
        logits = model(images)
    return (
        model,
        images,
        logits[:, 0] - logits[:, 1],
        (model.weight[1] - model.weight[0]).detach().view(images[:1].shape),
    )
