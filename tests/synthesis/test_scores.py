"""Scores of pictures, in closed form."""

import math

import pytest
import torch
from torch import nn

from assay.core.errors import AssayError
from assay.synthesis.scores import BANDS, diversity, psnr, radial_spectrum, robust_probability, spectrum_distance
from tests.synthesis.nets import Net, pictures


def test_a_waves_power_is_in_its_band() -> None:
    x = torch.arange(64)
    for cycles in (2, 8, 24):
        wave = (2 * math.pi * cycles * x / 64).cos().view(1, 1, 1, 64).expand(1, 1, 64, 64)
        spectrum = radial_spectrum(wave)[0].nan_to_num()
        band = int(math.log(cycles) / math.log(32) * BANDS)
        assert spectrum[band] == spectrum.max()
        assert spectrum.sum() - spectrum[band] < 1e-6 * spectrum[band]


def test_ten_times_the_power_is_ten_decibels() -> None:
    images = pictures(8, 32, 32)
    louder = images.mean() + math.sqrt(10) * (images - images.mean())
    torch.testing.assert_close(spectrum_distance(louder, images[:1])[0], torch.tensor(10.0), atol=0.05, rtol=0)
    assert spectrum_distance(images[:1], images[:1]).item() == pytest.approx(0, abs=1e-4)
    with pytest.raises(AssayError, match="differ in size"):
        spectrum_distance(images, images[..., :20])


def test_white_noise_is_far_from_smooth_pictures() -> None:
    smooth, noise = pictures(16, 32, 32), torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert spectrum_distance(noise, smooth).min() > 2 * spectrum_distance(smooth, smooth).mean()


def test_robust_probability_of_a_model_that_sees_the_mean() -> None:
    """A constant picture looks the same rolled, turned and scaled."""

    class Mean(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            mean = images.mean((1, 2, 3))
            return torch.stack([mean, -mean], 1)

    images = torch.full((2, 1, 20, 20), 0.3)
    wanted = torch.tensor([0.6, -0.6]).sigmoid()
    torch.testing.assert_close(robust_probability(Mean(), images, torch.tensor([0, 1])), wanted)


def test_robust_probability_is_the_same_every_time() -> None:
    net, images = Net(), pictures(2, 24, 24)
    first, again = (robust_probability(net, images, 1) for _ in range(2))
    assert torch.equal(first, again)
    torch.testing.assert_close(robust_probability(net, images[1:], 1), first[1:])


def test_diversity_of_equal_pictures_is_zero() -> None:
    net, image = Net(), pictures(1, 24, 24)
    assert diversity(net, image.repeat(3, 1, 1, 1), "body.4") == pytest.approx(0, abs=1e-5)
    assert diversity(net, pictures(4, 24, 24), "body.4") > 1e-4
    with pytest.raises(AssayError, match="two pictures or more"):
        diversity(net, image, "body.4")


def test_psnr() -> None:
    images = torch.zeros(2, 1, 4, 4)
    assert psnr(images + 0.1, images).tolist() == pytest.approx([20, 20])
    assert psnr(images, images).isinf().all()
