import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from assay.core.errors import AssayError
from assay.explain import GrabCut, Saliency
from assay.explain.segmentation import segment
from tests.explain.models import Linear


def scene() -> tuple[Tensor, Tensor]:
    """A reddish rectangle on dark noise, and where it is."""
    images = torch.rand(2, 3, 40, 40, generator=torch.Generator().manual_seed(0)) * 0.3
    images[0, 0, 10:30, 12:28] += 0.6
    images[1, 0, 4:16, 20:36] += 0.6
    where = torch.zeros(2, 40, 40, dtype=torch.bool)
    where[0, 10:30, 12:28] = True
    where[1, 4:16, 20:36] = True
    return images, where


def spots() -> Tensor:
    """Heat on a small part of each rectangle."""
    heat = torch.zeros(2, 40, 40)
    heat[0, 15:22, 15:20] = 1
    heat[1, 8:12, 24:32] = torch.rand(4, 8, generator=torch.Generator().manual_seed(1)) + 0.1
    return heat


@pytest.mark.parametrize("iterations", [1, 5])
def test_a_spot_on_the_object_cuts_it_out(iterations: int) -> None:
    images, where = scene()
    assert torch.equal(segment(images, spots(), iterations=iterations), where)


def test_a_cut_depends_on_its_own_image_only_and_not_on_what_came_before() -> None:
    images, _ = scene()
    noisy = images + torch.rand(images.shape, generator=torch.Generator().manual_seed(2)) * 0.1
    together = segment(noisy, spots())
    cv2.setRNGSeed(9)
    assert torch.equal(together[1:], segment(noisy[1:], spots()[1:]))
    assert together.dtype == torch.bool


def test_opencvs_generator_goes_on_from_where_it_was() -> None:
    drawn = []
    for seed in (3, 3, 4):
        cv2.setRNGSeed(seed)
        segment(scene()[0], spots())
        drawn.append(cv2.randu(np.zeros((1, 4), np.int32), 0, 1000).tolist())
    assert drawn[0] == drawn[1] != drawn[2]


def test_heat_that_is_not_finite_has_no_cut() -> None:
    class Broken(Linear):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images) * torch.where(images[:, 0, 0, :1] > 0.9, torch.nan, 1)

    model, (images, _) = Broken(shape=(3, 40, 40)), scene()
    images[1, 0, 0, 0] = 1
    heat = GrabCut(by="saliency")(model, images, torch.tensor([1, 2]))
    assert heat[0].isfinite().all()
    assert heat[1].isnan().all()
    assert GrabCut(by="saliency").doubts(model, images, torch.tensor([1, 2]), heat) == ["", "non-finite"]


def test_the_order_of_the_heat_is_all_that_counts() -> None:
    images, _ = scene()
    assert torch.equal(segment(images, spots() * 7 - 3), segment(images, spots()))


def test_heat_without_a_peak_gives_nothing() -> None:
    images, _ = scene()
    heat = torch.ones(2, 40, 40)
    heat[1, 0, 0] = torch.nan
    assert not segment(images, heat).any()
    assert segment(images[:0], heat[:0]).shape == (0, 40, 40)


@pytest.mark.parametrize("shape", [(1, 6, 6), (3, 2, 2), (1, 1, 2)])
def test_grey_and_tiny_images_are_cut(shape: tuple[int, int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    heat = torch.rand(2, *shape[1:], generator=generator)
    mask = segment(torch.rand(2, *shape, generator=generator), heat)
    assert mask.shape == (2, *shape[1:])
    assert mask.flatten(1).gather(1, heat.flatten(1).argmax(1, keepdim=True)).all()
    assert not mask.flatten(1).gather(1, heat.flatten(1).argmin(1, keepdim=True)).any()


def test_grab_cut_cuts_around_another_methods_heat() -> None:
    """A model that reads a few pixels of the object: its saliency is a seed, its object the whole."""
    model, (images, where) = Linear(shape=(3, 40, 40)), scene()
    with torch.no_grad():
        model.w.mul_(spots()[0])
    heat = GrabCut(by="saliency", foreground=0.01)(model, images[:1], torch.tensor([1]))
    assert torch.equal(heat, where[:1].float())


def test_impossible_cuts_are_refused() -> None:
    for settings in ({"foreground": 0.0}, {"background": 0.97}, {"iterations": 0}):
        with pytest.raises(AssayError, match="a cut needs"):
            GrabCut(**settings)
    with pytest.raises(AssayError, match="unknown explainer 'gradcan'"):
        GrabCut(by="gradcan")
    with pytest.raises(AssayError, match=r"GrabCut: by=Saliency\(\) is not str"):
        GrabCut(by=Saliency())  # type: ignore[arg-type]
