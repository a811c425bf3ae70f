"""Laws of the patchwise contrast."""

import math

import pytest
import torch
import torch.nn.functional as F
from geoi2i.core.networks.resnet import ResnetGenerator, ResnetSizes
from geoi2i.training.contrast import Projector, contrast, patch_nce


@pytest.fixture
def generator():
    torch.manual_seed(0)
    return ResnetGenerator(ResnetSizes(bands_in=3, bands_out=3, width=8, blocks=6, levels=2, style=0, embedding=8))


def test_the_loss_is_that_of_the_paper():
    """Park et al. 2020, equation 3, written out place by place."""
    torch.manual_seed(0)
    queries, keys = (F.normalize(torch.randn(2, 5, 4, dtype=torch.float64), dim=2) for _ in range(2))
    terms = []
    for n in range(2):
        for p in range(5):
            alike = [math.exp(float(queries[n, p] @ keys[n, k]) / 0.07) for k in range(5)]
            terms.append(-math.log(alike[p] / sum(alike)))
    assert patch_nce(queries, keys, 0.07).item() == pytest.approx(sum(terms) / len(terms), rel=1e-12)


def test_alike_costs_nothing_and_strangers_cost_the_logarithm_of_their_number():
    vectors = F.normalize(torch.eye(8, dtype=torch.float64), dim=1)[None]
    assert patch_nce(vectors, vectors, 0.07).item() < 1e-5
    assert patch_nce(vectors[:, :1].expand(1, 8, 8), vectors[:, :1].expand(1, 8, 8), 0.07).item() == pytest.approx(
        math.log(8))


def test_the_own_image_costs_less_than_a_shuffled_one(generator):
    torch.manual_seed(1)
    image = torch.rand(2, 3, 32, 32) * 2 - 1
    shuffled = image.flatten(2)[:, :, torch.randperm(1024)].reshape(image.shape)
    projector = Projector(generator.tap_channels, 16)
    costs = [contrast(generator, projector, made, image, None, 64, 0.07).item() for made in (image, shuffled)]
    assert costs[0] < 0.8 * costs[1]


def test_a_mirror_image_is_mirrored_back(generator):
    torch.manual_seed(1)
    image, projector = torch.rand(2, 3, 32, 32) * 2 - 1, Projector(generator.tap_channels, 16)

    def cost(made, mirrored):
        torch.manual_seed(2)
        return contrast(generator, projector, made, image, None, 64, 0.07, mirrored).item()

    # The network itself is not symmetric, so the two costs are close and not equal.
    assert cost(image.flip(3), True) < 0.9 * cost(image.flip(3), False)


def test_gradients_reach_what_was_made_and_not_its_source(generator):
    made, source = torch.rand(2, 1, 3, 16, 16).requires_grad_(True).unbind()
    made, source = made.detach().requires_grad_(True), source.detach().requires_grad_(True)
    projector = Projector(generator.tap_channels, 8)
    contrast(generator, projector, made, source, None, 16, 0.07).backward()
    assert made.grad.abs().max() > 0 and source.grad is None
    assert all(p.grad is not None for p in projector.parameters())


def test_taps_go_from_pixels_to_the_deepest_level(generator):
    maps = generator.feature_maps(torch.rand(1, 3, 32, 32), torch.zeros(1), None)
    assert [tuple(each.shape[1:]) for each in maps] == [(3, 32, 32), (16, 32, 32), (32, 16, 16), (32, 8, 8), (32, 8, 8)]
    assert tuple(each.shape[1] for each in maps) == generator.tap_channels
