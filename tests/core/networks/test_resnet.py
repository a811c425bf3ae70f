"""Laws of the generator: alive everywhere, told the time, not blind to level, and of a stated reach."""

import pytest
import torch
from geoi2i.core.inference.sampler import advance, predict
from geoi2i.core.inference.steps import schrodinger_bridge_table
from geoi2i.core.networks.resnet import ResnetGenerator, ResnetSizes
from geoi2i.core.networks.unet import UNet, UNetSizes

Z = torch.linspace(-1, 1, 4)[None]


def image(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def at(network, x, time=0.0, style=Z):
    with torch.inference_mode():
        return network(x, torch.full((x.shape[0],), time), style.expand(x.shape[0], -1))


def test_every_parameter_has_a_gradient(make_network):
    """The public block leaves 58 tensors of UNSB's generator without one (specs/unpaired.md, check 2)."""
    network = make_network().requires_grad_(True)
    network(image(2, 3, 32, 32), torch.tensor([0.0, 3.0]), Z.expand(2, -1)).square().mean().backward()
    dead = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().max() > 1e-12]
    blind = [name for name in dead if not name.endswith("conv.bias") and not name.endswith("second.bias")]
    assert not blind, "only a bias whose mean the normalisation removes may have a small gradient"


def test_rollout_builds_no_graph(make_network):
    network, table, x = make_network().requires_grad_(True), schrodinger_bridge_table(3), image(1, 3, 16, 16)
    with torch.no_grad():
        for step in table.steps:
            x = advance(step, x, predict(table, step, network, x, None, Z), None, None, torch.zeros_like(x))
    assert not x.requires_grad and x.grad_fn is None


def test_time_changes_the_result_after_one_update():
    """From the training's own start; the inert block of the public code gives 0 (check 3)."""
    torch.manual_seed(0)
    network = ResnetGenerator(ResnetSizes(bands_in=3, bands_out=3, width=8, blocks=2, style=4, embedding=16))
    x, optimiser = image(1, 3, 32, 32), torch.optim.Adam(network.parameters(), 2e-4)
    network(x, torch.zeros(1), Z).square().mean().backward()
    optimiser.step()
    assert (at(network, x, 0.0) - at(network, x, 4.0)).abs().mean() > 1e-4


def test_time_style_and_every_band_change_the_result(make_network):
    network, x = make_network(), image(1, 3, 32, 32)
    base, spread = at(network, x), at(network, x).std()
    assert (base - at(network, x, 1.0)).abs().mean() > 0.02 * spread
    assert (base - at(network, x, style=-Z)).abs().mean() > 0.02 * spread
    for band in range(3):
        moved = x.clone()
        moved[:, band] += 0.2
        assert (base - at(network, moved)).abs().mean() > 0.02


@pytest.mark.parametrize("fresh", [True, False])
def test_an_offset_and_a_gain_of_the_input_reach_the_output(make_network, fresh):
    """Official bridge generators cancel both: their first convolution runs straight into a norm."""
    network, x = make_network(), 0.5 * image(1, 3, 32, 32)
    if fresh:
        network = ResnetGenerator(network.sizes).eval()
    assert (at(network, x + 0.1).mean() - at(network, x).mean()).abs() > 0.05
    assert (at(network, 1.5 * x).std() / at(network, x).std() - 1).abs() > 0.1


def test_a_fresh_network_is_nearly_the_identity():
    torch.manual_seed(0)
    network, x = ResnetGenerator(ResnetSizes(bands_in=3, bands_out=3, width=8, blocks=1)), image(1, 3, 32, 32)
    assert (at(network, x, style=torch.ones(1, 256)) - x).abs().mean() < 0.1


def unet(**sizes):
    """A small U-Net whose head is not small."""
    torch.manual_seed(0)
    network = UNet(UNetSizes(**{"bands_in": 3, "bands_out": 3, "width": 8, "blocks": 1, "levels": 2, "style": 4,
                                "embedding": 16, **sizes})).eval()
    torch.nn.init.normal_(network.head.weight, std=0.1)
    return network


def test_every_parameter_of_a_unet_has_a_gradient():
    network = unet(attention=1).requires_grad_(True)
    torch.nn.init.normal_(network.attention.give.weight, std=0.1)
    network(image(2, 3, 32, 32), torch.tensor([0.0, 3.0]), Z.expand(2, -1)).square().mean().backward()
    dead = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().max() > 1e-12]
    # A bias whose mean the normalisation removes, and that of keys, which shifts all scores alike.
    assert not [name for name in dead if not name.endswith(("conv.bias", "second.bias"))]


def test_a_unet_sees_time_style_bands_and_level():
    network, x = unet(), image(1, 3, 32, 32)
    base = at(network, x)
    assert (base - at(network, x, 1.0)).abs().mean() > 1e-3 and (base - at(network, x, style=-Z)).abs().mean() > 1e-3
    assert ((at(network, x + 0.1) - base).mean((0, 2, 3)) > 0.05).all()


def test_a_fresh_unet_gives_the_last_bands_that_it_sees():
    """Those are the source, where a sampler shows it beside the state."""
    torch.manual_seed(0)
    network, x = UNet(UNetSizes(bands_in=6, bands_out=3, width=8, blocks=1)), image(1, 6, 32, 32)
    assert (at(network, x, style=Z) - x[:, 3:]).abs().mean() < 0.1


def test_only_attention_makes_far_pixels_count():
    for attention in (0, 1):
        network = unet(attention=attention, levels=1, width=16)
        if attention:
            torch.nn.init.normal_(network.attention.give.weight)
        x = image(1, 3, 128, 128)
        moved = x.clone()
        moved[..., 0, 0] += 1
        far = (at(network, moved) - at(network, x))[..., -8:, -8:].abs().max()
        assert (far > 0) == bool(attention) == network.attends


@pytest.mark.slow
@pytest.mark.parametrize("kind, levels, blocks", [
    *(("resnet", *each) for each in [(0, 0), (0, 2), (1, 1), (2, 0), (2, 2), (3, 1)]),
    *(("unet", *each) for each in [(0, 1), (1, 1), (2, 1), (2, 2), (3, 1)])])
def test_nothing_changes_beyond_the_receptive_radius(kind, levels, blocks):
    """In float64: exactly zero beyond `radius_px`, wherever on the lattice the pixel lies."""
    torch.manual_seed(0)
    network, sizes = {"resnet": (ResnetGenerator, ResnetSizes), "unet": (UNet, UNetSizes)}[kind]
    network = network(sizes(bands_in=1, bands_out=1, width=8, blocks=blocks, levels=levels, style=4, embedding=16))
    network = network.double().eval()
    torch.nn.init.normal_(network.head.weight)
    radius = network.radius_px
    side = -(-(2 * radius + 40) // network.stride) * network.stride
    x, z = torch.rand(1, 1, side, side, dtype=torch.float64), Z.double()
    base, reach = at(network, x, style=z), 0
    for shift in range(network.stride):
        moved, middle = x.clone(), side // 2 + shift
        moved[0, 0, middle, middle] += 1
        rows, cols = torch.nonzero((at(network, moved, style=z) != base)[0, 0], as_tuple=True)
        reach = max(reach, int((rows - middle).abs().max()), int((cols - middle).abs().max()))
    assert reach <= radius
    assert reach >= radius - network.stride, "a radius far too wide would waste work"


def test_radius_of_the_published_sizes():
    """183 pixels of receptive field for UNSB's generator without its defects (specs/unpaired.md, section 4)."""
    with torch.device("meta"):
        network = ResnetGenerator(ResnetSizes(bands_in=3, bands_out=3))
    assert abs(network.radius_px - 93) <= 3 and network.stride == 4


def test_moving_the_image_along_the_lattice_moves_the_result(make_network):
    network = make_network()
    x, r = image(1, 3, 128, 128), network.radius_px
    moved = at(network, x[:, :, 8:, 4:])
    torch.testing.assert_close(moved[:, :, r:-r, r:-r], at(network, x)[:, :, 8 + r : -r, 4 + r : -r], atol=1e-5,
                               rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_level_path_keeps_its_precision(make_network, dtype):
    """With the rest of the network silent, half precision must not touch the radiometry."""
    from geoi2i.core.models.package import at_precision

    network, x = make_network(), 1000 + image(1, 3, 16, 16)
    torch.nn.init.zeros_(network.head.weight)
    torch.nn.init.zeros_(network.head.bias)
    base = at(network, x)
    half = at_precision(network, dtype)
    assert half.stem.weight.dtype == dtype and half.level.weight.dtype == torch.float32
    assert at(half, x).dtype == torch.float32 and torch.equal(at(half, x), base)
