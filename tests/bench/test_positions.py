import numpy as np
import torch
from matplotlib.colors import to_rgb

from assay.bench.models import load
from assay.bench.positions import draw_positions
from assay.explain import Occlusion
from tests.bench.nets import OWN


def test_the_figure_shows_what_was_said_where_the_squares_lay() -> None:
    model, picture = load(f"{OWN}convolutional"), torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    occlusion = Occlusion(window=4, stride=2)
    figure = draw_positions(occlusion, model, picture, 3)
    shown, warm, said = figure.axes[:3]
    found = occlusion.positions(model, picture, torch.tensor([3]))
    np.testing.assert_allclose(np.asarray(warm.images[0].get_array()), found.probability[0].numpy())
    assert tuple(warm.images[0].get_extent()) == tuple(said.images[0].get_extent()) == (1, 7, 7, 1)
    assert tuple(shown.images[0].get_extent()) == (0, 8, 8, 0)
    colours = np.asarray(said.images[0].get_array()).reshape(-1, 3)
    predicted = found.predicted[0].flatten()
    legend = said.get_legend()
    assert legend is not None
    labels = zip(legend.get_patches(), legend.get_texts(), strict=True)
    names = {tuple(np.round(to_rgb(patch.get_facecolor()), 3)): text.get_text() for patch, text in labels}
    assert [names[tuple(np.round(colour, 3))] for colour in colours] == [model.classes[int(k)] for k in predicted]
