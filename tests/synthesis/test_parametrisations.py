"""What is moved: inverses, statistics, and that each can hold a picture."""

import pytest
import torch
from torch import Tensor, nn

from assay.core.draws import Draws
from assay.core.errors import AssayError
from assay.core.targets import Logit
from assay.synthesis import Visualize
from assay.synthesis.loop import Adam, optimise
from assay.synthesis.parametrisations import CPPN, MACO, Fourier, Latent, Statistics
from assay.synthesis.visualize import facets
from tests.synthesis.nets import Net, pictures


def draws(n: int) -> Draws:
    return Draws.hashed("test", map(str, range(n)))


def test_statistics_of_pictures_with_known_colours() -> None:
    """Of mixtures of independent noises: the mean, and a root of the covariance."""
    mixing = torch.tensor([[0.05, 0.02, 0.0], [0.04, 0.0, 0.03], [0.01, 0.02, 0.02]])
    noise = torch.randn(8, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    images = 0.4 + torch.einsum("cd,ndhw->nchw", mixing, noise)
    found = Statistics.of(images)
    torch.testing.assert_close(found.mean, torch.full((3,), 0.4), atol=2e-3, rtol=0)
    torch.testing.assert_close(found.colours @ found.colours.T, mixing @ mixing.T, atol=1e-4, rtol=0)
    assert found.magnitude.mean().item() == pytest.approx(0.886, abs=0.02)  # of white noise: Rayleigh, sqrt(pi) / 2


@pytest.mark.parametrize("size", [(12, 16), (15, 9)])
def test_colours_and_back(size: tuple[int, int]) -> None:
    images = 0.1 + 0.8 * pictures(2, *size)
    for statistics in (Statistics.usual(images), Statistics.of(images)):
        torch.testing.assert_close(statistics.correlate(statistics.decorrelate(images)), images, atol=2e-4, rtol=0)


@pytest.mark.parametrize("size", [(12, 16), (15, 9)])
def test_fourier_starts_as_the_picture(size: tuple[int, int]) -> None:
    images = 0.1 + 0.8 * pictures(2, *size)
    made = Fourier(images, Statistics.usual(images))
    torch.testing.assert_close(made.images(), images, atol=2e-4, rtol=0)
    made.become(images.flip(0))
    torch.testing.assert_close(made.images(), images.flip(0), atol=2e-4, rtol=0)


def test_usual_statistics_have_the_usual_spread() -> None:
    """Random phases under the usual magnitudes give pictures of the stated spread."""
    grey = torch.full((6, 1, 32, 32), 0.5)
    noise = grey + 0.01 * torch.randn(grey.shape, generator=torch.Generator().manual_seed(0))
    made = MACO(noise, Statistics.usual(grey)).images()
    plain = made.logit() / 4 + 0.5
    assert (plain - plain.mean((2, 3), keepdim=True)).std().item() == pytest.approx(0.25, rel=0.35)


def test_maco_keeps_the_magnitudes() -> None:
    like = pictures(20, 24, 24)
    statistics = Statistics.of(like)
    start = pictures(2, 24, 24, seed=3)
    made = MACO(start, statistics)

    def sizes() -> Tensor:
        plain = torch.einsum(
            "dc,nchw->ndhw",
            statistics.colours.inverse(),
            made.images().logit() / 4 + 0.5 - statistics.mean[:, None, None],
        )
        found: Tensor = torch.fft.rfft2(plain, norm="ortho").abs()[..., 1:-1]  # the outer columns pair up
        return found

    torch.testing.assert_close(sizes(), statistics.magnitude[..., 1:-1].expand(2, -1, -1, -1), atol=1e-3, rtol=1e-3)
    optimise(made, lambda x: x[:, 0].square().sum((1, 2)), draws(2), steps=5, rule=Adam(0.1))
    torch.testing.assert_close(sizes(), statistics.magnitude[..., 1:-1].expand(2, -1, -1, -1), atol=1e-3, rtol=1e-3)


def test_a_cppn_learns_a_picture() -> None:
    wanted = pictures(2, 16, 20)
    made = CPPN(draws(2).normal((CPPN.count(3),)), (3, 16, 20))
    assert torch.allclose(made.images(), torch.tensor(0.5))  # the last weights are zero
    art = optimise(made, lambda x: -(x - wanted).square().mean((1, 2, 3)), draws(2), steps=300, rule=Adam(0.01))
    assert (art.history[-1] > art.history[0] / 20).all()


class Blobs(nn.Module):
    """A generator: a smooth picture of 4 x 4 numbers."""

    latent = 48

    def forward(self, codes: Tensor) -> Tensor:
        images: Tensor = nn.functional.interpolate(codes.view(-1, 3, 4, 4), (24, 24), mode="bilinear").sigmoid()
        return images


def test_a_generators_code_is_climbed_and_clipped() -> None:
    net = Net()
    method = Visualize(parametrisation="latent", steps=40, step_size=0.3)
    art = method(net, Logit(torch.arange(3)), generator=Blobs())
    assert (art.history[-1] > art.history[0]).all()
    limit = torch.tensor(3.0).sigmoid()
    assert art.images.max() <= limit
    assert art.images.min() >= 1 - limit
    held = Visualize(parametrisation="latent", steps=40, step_size=0.3, l2=10.0)(net, Logit(0), generator=Blobs())
    assert (held.images - 0.5).abs().mean() < (art.images[:1] - 0.5).abs().mean() / 2


def test_the_best_of_the_candidates_starts() -> None:
    net, target = Net(), Logit(torch.arange(3))
    still = {"parametrisation": "latent", "steps": 1, "step_size": 1e-9, "jitter": 0.0, "degrees": 0.0, "scale": 0.0}
    one, many = (Visualize(candidates=n, **still)(net, target, generator=Blobs()) for n in (1, 24))  # type: ignore[arg-type]
    assert (many.history[0] > one.history[0]).all()
    codes = Draws.hashed("seed 0", "012").normal((24, 48))
    with torch.no_grad():
        for i in range(3):
            best = Logit(i)(net, Blobs()(codes[i])).max()
            torch.testing.assert_close(many.history[0, i], best, atol=1e-4, rtol=1e-3)


def test_generators_that_do_not_fit_are_refused() -> None:
    method = Visualize(parametrisation="latent", steps=1)
    with pytest.raises(AssayError, match=r"latent needs a generator with a number \.latent"):
        method(Net(), Logit(0))
    with pytest.raises(AssayError, match=r"makes pictures \(3, 24, 24\) and the model takes \(3, 30, 30\)"):
        Visualize(parametrisation="latent", steps=1, size=(3, 30, 30))(Net(), Logit(0), generator=Blobs())


@pytest.mark.parametrize("parametrisation", ["maco", "cppn"])
def test_filters_need_pixels(parametrisation: str) -> None:
    with pytest.raises(AssayError, match="use pixel or fourier"):
        Visualize(parametrisation=parametrisation, steps=3, blur_every=1)(Net(), Logit(0))  # type: ignore[arg-type]


def test_statistics_without_variation_stay_finite() -> None:
    grey = torch.full((3, 3, 8, 8), 0.5)
    made = MACO(grey, Statistics.of(grey)).images()
    assert made.isfinite().all()
    assert Latent(torch.zeros(1, 48), Blobs(), (3, 24, 24)).images().isfinite().all()


def test_facets_are_means_of_near_images() -> None:
    """Two heaps of codes: a mean image of each."""
    codes = torch.tensor([[0.0], [0.1], [0.2], [9.0], [9.1]])
    images = codes[:, :, None, None] / 10
    found = facets(codes, images, 2, near=2)
    assert sorted(found.flatten().tolist()) == pytest.approx([0.01, 0.905], abs=0.006)
    with pytest.raises(AssayError, match="6 clusters of 5 images"):
        facets(codes, images, 6)


def test_a_generator_is_borrowed() -> None:
    class Dropping(Blobs):
        def __init__(self) -> None:
            super().__init__()
            self.drop = nn.Dropout(0.5)

        def forward(self, codes: Tensor) -> Tensor:
            images: Tensor = self.drop(super().forward(codes))
            return images

    generator = Dropping().train()
    method = Visualize(parametrisation="latent", steps=3)
    first, again = (method(Net(), Logit(0), generator=generator).images for _ in range(2))
    assert torch.equal(first, again)
    assert generator.training
