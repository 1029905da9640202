"""The answers around images, against closed forms on affine models."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.attacks.loss_landscape import line, linearity, plane, uphill
from assay.bench.measurements import Options, Setup
from assay.bench.measurements.landscape import LandscapeCell
from assay.bench.runs.plan import plan
from tests.attacks.models import Affine, near_grey
from tests.bench.nets import OWN

RADII = torch.linspace(-0.1, 0.1, 9)


def setting() -> tuple[Affine, Tensor, Tensor]:
    model, images = Affine(4), near_grey(3)
    return model, images, model(images).argmax(1).detach()


def test_the_line_of_an_affine_model_is_affine() -> None:
    model, images, labels = setting()
    direction = uphill(model, images, labels)
    logits = line(model, images, direction, RADII, batch_size=4)
    assert logits.shape == (3, 9, 4)
    slope = direction.flatten(1) @ model.weight.T
    torch.testing.assert_close(logits, (model(images)[:, None] + RADII[None, :, None] * slope[:, None]).detach())


def test_uphill_is_the_direction_of_fgsm() -> None:
    model, images, labels = setting()
    x = images.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(F.cross_entropy(model(x), labels, reduction="sum"), x)
    assert torch.equal(uphill(model, images, labels), gradient.sign())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_an_affine_model_is_straight_and_a_bent_one_is_not() -> None:
    model, images, labels = setting()
    direction = uphill(model, images, labels)
    straight = linearity(RADII, line(model, images, direction, RADII), labels)
    torch.testing.assert_close(straight, torch.ones(3))
    parabola = torch.stack([RADII**2, torch.zeros(9)], 1)[None]
    torch.testing.assert_close(linearity(RADII, parabola, torch.tensor([0])), torch.zeros(1))
    half = torch.stack([RADII + (RADII.square() - RADII.square().mean()) * 10, torch.zeros(9)], 1)[None]
    bent = 100 * (RADII.square() - RADII.square().mean()).square().sum()
    share = RADII.square().sum() / (RADII.square().sum() + bent)
    torch.testing.assert_close(linearity(RADII, half, torch.tensor([0])), share[None])


def test_a_margin_that_does_not_move_has_no_linearity() -> None:
    assert linearity(RADII, torch.ones(1, 9, 3) * 0.3, torch.tensor([0])).isnan().all()


def test_the_plane_holds_loss_and_margin_at_every_point() -> None:
    model, images, labels = setting()
    first, second = uphill(model, images, labels), near_grey(3, seed=5).sub(0.5).sign()
    axis = torch.tensor([-0.1, 0.0, 0.05])
    found = plane(model, images, labels, first, second, axis, batch_size=5)
    for i, a in enumerate(axis):
        for j, b in enumerate(axis):
            logits = model(images + a * first + b * second).detach()
            torch.testing.assert_close(found.loss[:, i, j], F.cross_entropy(logits, labels, reduction="none"))
            others = logits.scatter(1, labels[:, None], -torch.inf).amax(1)
            torch.testing.assert_close(found.margin[:, i, j], logits.gather(1, labels[:, None])[:, 0] - others)


def test_the_model_is_given_back() -> None:
    model, images = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(75, 3)).train(), near_grey(2)
    line(model, images, images.sign(), RADII)
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())


def cell(count: int, **more: int) -> LandscapeCell:
    options = Options(models=(OWN + "linear",), data=("digits",), limit=10, gallery=0, landscapes=count, **more)
    (found,) = [one for one in plan(options).cells if isinstance(one, LandscapeCell)]
    return found


def test_the_cell_keeps_line_and_surface() -> None:
    found = cell(2).measure(Setup(batch_size=3))
    shapes = {
        name: {key: array.shape for key, array in found.art[name].items()} for name in ("line.npz", "surface.npz")
    }
    assert shapes == {
        "line.npz": {"radii": (33,), "logits": (2, 33, 10), "labels": (2,), "images": (2, 8, 8, 1)},
        "surface.npz": {"axis": (17,), "loss": (2, 17, 17), "margin": (2, 17, 17)},
    }
    assert found.art["line.npz"]["radii"][16] == found.art["surface.npz"]["axis"][8] == 0
    assert [row["metric"] for row in found.rows] == ["linearity"] * 2
    assert all(abs(row["value"] - 1) < 1e-6 for row in found.rows)
    assert found.art["meta.json"]["ids"] == [row["image"] for row in found.rows]
    assert [row["forwards"] for row in found.rows] == [1 + 33 + 17**2] * 2
    margin = found.art["surface.npz"]["margin"]
    assert (margin[:, 8, 8] > 0).all()
    assert (margin[:, 16, 8] < margin[:, 0, 8]).all()


def test_no_landscapes_unless_asked_for() -> None:
    options = Options(models=(OWN + "linear",), data=("digits",))
    assert not any(isinstance(one, LandscapeCell) for one in plan(options).cells)
    assert cell(2).id != cell(1).id != cell(1, seed=1).id
