"""Randomising really changes every parameter, top down, and nothing of the caller's; what it says of known maps."""

import copy
import dataclasses
import math

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from skimage.metrics import structural_similarity
from torch import Tensor, nn

from assay.core.draws import Draws
from assay.core.targets import Logit, Target
from assay.explain import Explainer, InputXGradient, Saliency, SobelMap
from assay.explain.metrics import Randomization
from assay.explain.metrics.sanity import randomize, top_down
from tests.explain.models import SmallCNN, built, pictures, small_cnn, state

LABELS = torch.tensor([0, 2])
FORMS = [Randomization(), Randomization(similarity="ssim"), Randomization(form="efficient")]


@pytest.mark.parametrize("name", ["test_vit", "test_convnext", "test_byobnet"])
def test_every_parameter_really_changes(name: str) -> None:
    """Class tokens, position embeddings, layer scales, biases and weights of normalisations that are constant."""
    model = built(name)
    before = copy.deepcopy(model)
    names = top_down(model, torch.rand(1, 3, 160, 160))
    assert sorted(names) == sorted(key for key, _ in model.named_parameters())
    randomize(model, names, seed=0)
    old = dict(before.named_parameters())
    for key, value in model.named_parameters():
        changed = (value != old[key]).double().mean()
        assert changed > 0.99, key
        assert value.isfinite().all()
    for (key, one), other in zip(model.named_buffers(), before.buffers(), strict=True):
        assert torch.equal(one, other), key


def test_layers_of_equal_shape_get_different_weights() -> None:
    one, other = nn.Linear(4, 4), nn.Linear(4, 4)
    other.load_state_dict(one.state_dict())
    randomize(nn.Sequential(one, other), ["0.weight", "1.weight", "0.bias", "1.bias"], seed=0)
    assert not torch.isclose(one.weight, other.weight).any()
    assert not torch.isclose(one.bias, other.bias).any()


def test_spread_and_seed() -> None:
    model = nn.Linear(200, 200, bias=False)
    nn.init.normal_(model.weight, 0.3, 0.05)
    same, other = copy.deepcopy(model), copy.deepcopy(model)
    for one, seed in ((model, 0), (same, 0), (other, 1)):
        randomize(one, ["weight"], seed)
    assert torch.equal(model.weight, same.weight)
    assert not torch.isclose(model.weight, other.weight).all()
    assert model.weight.mean().item() == pytest.approx(0.3, abs=0.002)
    assert model.weight.std().item() == pytest.approx(0.05, rel=0.02)


def test_top_down_begins_at_the_logits() -> None:
    names = top_down(small_cnn(), pictures(1))
    layers = [name.rpartition(".")[0] for name in names]
    assert list(dict.fromkeys(layers)) == ["head", "body", "stem.1", "stem.0"]
    tokens = top_down(built("test_vit"), torch.rand(1, 3, 160, 160))
    assert tokens[0].startswith("head")
    assert set(tokens[-2:]) == {"cls_token", "pos_embed"}


@pytest.mark.parametrize("metric", FORMS)
def test_an_edge_detector_passes_for_what_it_is(metric: Randomization) -> None:
    """It does not read the model, so all of it stays."""
    model, x = small_cnn(), pictures(2)
    heat = SobelMap()(model, x, LABELS)
    kept = 0.0 if metric.form == "efficient" else 1.0
    values = metric(model, x, LABELS, heat, explainer=SobelMap())
    torch.testing.assert_close(values, torch.full((2,), kept))


@pytest.mark.parametrize("metric", FORMS)
def test_saliency_changes_and_the_model_does_not(metric: Randomization) -> None:
    model, x = small_cnn(), pictures(2)
    before = state(model)
    heat = Saliency()(model, x, LABELS)
    values = metric(model, x, LABELS, heat, explainer=Saliency())
    assert (values < 0.9).all()
    assert values.isfinite().all()
    assert state(model) == before


def cascade(model: SmallCNN, x: Tensor) -> list[Tensor]:
    """The maps of saliency after head and bias, then body, ... have been drawn anew, eight parameters in four pairs."""
    model, maps = copy.deepcopy(model).eval(), []
    for layer in ("head", "body", "stem.1", "stem.0"):
        randomize(model, [f"{layer}.weight", f"{layer}.bias"], seed=3)
        maps.append(Saliency()(model, x, LABELS))
    return maps


def test_cascading_equals_a_reference() -> None:
    model, x = small_cnn(), pictures(2)
    heat = Saliency()(model, x, LABELS)
    after = cascade(model, x)
    spearman = Randomization(seed=3)(model, x, LABELS, heat, explainer=Saliency())
    ssim = Randomization(seed=3, similarity="ssim")(model, x, LABELS, heat, explainer=Saliency())
    for i in range(2):
        ranks = [spearmanr(heat[i].flatten(), other[i].flatten()).statistic for other in after]
        assert spearman[i].item() == pytest.approx(np.mean(np.abs(ranks)), abs=1e-5)
        scaled = [((one[i] / one[i].abs().max() + 1) / 2).numpy().astype(float) for one in (heat, *after)]
        alike = [structural_similarity(scaled[0], other, data_range=1.0) for other in scaled[1:]]
        assert ssim[i].item() == pytest.approx(np.mean(alike), abs=1e-5)


def test_the_efficient_form_equals_a_reference() -> None:
    model, x = small_cnn(), pictures(2)
    heat = Saliency()(model, x, LABELS)
    ours = Randomization(form="efficient", seed=3)(model, x, LABELS, heat, explainer=Saliency())
    last = cascade(model, x)[-1]
    for i in range(2):
        complexities = []
        for values in (heat[i].double(), last[i].double()):
            bins = np.histogram(values.numpy(), bins=100)[0]
            shares = [count / bins.sum() for count in bins if count]
            complexities.append(-sum(p * math.log(p) for p in shares))
        assert ours[i].item() == pytest.approx(1 - complexities[1] / complexities[0], abs=1e-6)


def test_more_stages_than_parameters_are_one_each() -> None:
    model, x = small_cnn(), pictures(2)
    heat = Saliency()(model, x, LABELS)
    scores = [Randomization(stages=n)(model, x, LABELS, heat, explainer=Saliency()) for n in (8, 99)]
    assert torch.equal(*scores)


@pytest.mark.parametrize("metric", FORMS)
def test_a_constant_map_is_undefined(metric: Randomization) -> None:
    values = metric(small_cnn(), pictures(2), Logit(LABELS), torch.ones(2, 24, 24), explainer=Saliency())
    assert values.isnan().all()


@dataclasses.dataclass(frozen=True)
class Then(Explainer):
    """Gives the same map of whatever model."""

    heat: Tensor

    def run(self, model: nn.Module, images: Tensor, target: Target, draws: Draws) -> Tensor:
        return self.heat


def test_a_map_upside_down_stays_by_its_ranks_and_is_another_picture() -> None:
    heat = InputXGradient()(small_cnn(), pictures(2), LABELS)
    given = small_cnn(), pictures(2), LABELS, heat
    torch.testing.assert_close(Randomization()(*given, explainer=Then(-heat)), torch.ones(2))
    assert (Randomization(similarity="ssim")(*given, explainer=Then(-heat)) < 0).all()
    torch.testing.assert_close(Randomization(similarity="ssim")(*given, explainer=Then(heat)), torch.ones(2))


def test_a_map_that_becomes_constant_keeps_nothing() -> None:
    given = small_cnn(), pictures(2), LABELS, Saliency()(small_cnn(), pictures(2), LABELS)
    constant = Then(torch.ones(2, 24, 24))
    for similarity in ("spearman", "ssim"):
        assert not Randomization(similarity=similarity)(*given, explainer=constant).any()
    assert Randomization(form="efficient")(*given, explainer=constant).isnan().all()
