"""Laws of the SP-I2I method: who learns from what, and when its gate is found broken."""

import math

import pytest
import torch
from geoi2i.core.errors import RecipeError
from geoi2i.core.inference.sampler import predict
from geoi2i.core.inference.steps import schrodinger_bridge_table
from geoi2i.core.networks.resnet import ResnetGenerator, ResnetSizes
from geoi2i.training.bridge import draw_style, rollout
from geoi2i.training.critics import Gate, PatchCritic
from geoi2i.training.losses import adversarial_loss, energy_loss, spatial_loss
from geoi2i.training.methods import METHODS
from geoi2i.training.methods.sp_i2i import SPI2I
from geoi2i.training.pyramid import decompose, reconstruct

TINY = {"steps": 3, "levels": 3, "critic_width": 8, "critic_levels": 2, "gate_width": 4}


@pytest.fixture(autouse=True)
def seed():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def tiny_generator(bands=3):
    return ResnetGenerator(
        ResnetSizes(bands_in=bands, bands_out=bands, width=8, blocks=1, levels=1, style=8, embedding=16)
    )


def tiny_batch(bands=3, samples=2, size=32):
    return {name: torch.rand(samples, bands, size, size) * 2 - 1 for name in ("source", "source2", "target")}


def play(method, networks, batches, lr=2e-4, hook=lambda loss: None):
    """The training loop's contract in a few lines; returns the last log figures."""
    optimisers = {
        player: torch.optim.Adam(
            [{"params": networks[n].parameters(), "lr": lr * method.lr_factor[n]} for n in names],
            betas=(0.5, 0.999),
        )
        for player, names in method.players.items()
    }
    parts = {}
    for batch in batches:
        for loss in method.losses(networks, batch):
            optimisers[loss.player].zero_grad()
            loss.value.backward()
            hook(loss)
            optimisers[loss.player].step()
            parts |= {name: float(value) for name, value in loss.parts.items()}
    return parts


# --- the chain ---------------------------------------------------------------------------------


def test_rollout_builds_no_graph_and_restores_the_mode():
    generator = tiny_generator().train()
    state = rollout(schrodinger_bridge_table(5), generator, torch.rand(2, 3, 32, 32), 4)
    assert not state.requires_grad and generator.training


def test_rollout_to_the_first_step_is_the_source():
    source = torch.rand(2, 3, 32, 32)
    assert torch.equal(rollout(schrodinger_bridge_table(5), tiny_generator(), source, 0), source)


def test_rollout_draws_style_and_noise_afresh():
    source, table, generator = torch.rand(2, 3, 32, 32), schrodinger_bridge_table(5), tiny_generator()
    assert not torch.equal(rollout(table, generator, source, 1), rollout(table, generator, source, 1))


def test_rollout_of_the_identity_adds_the_tables_noise():
    """With x_hat = x the recursion X_1 = X_0 + 0.05 eps holds (specs: noise std .0500 at T=5)."""

    class Identity(torch.nn.Module):
        style_size = 1

        def forward(self, image, time, style):
            return image

    source = torch.rand(8, 3, 64, 64)
    noise = rollout(schrodinger_bridge_table(5), Identity(), source, 1) - source
    assert noise.std().item() == pytest.approx(0.05, rel=0.02)


# --- who gets a gradient -----------------------------------------------------------------------


def test_every_parameter_of_every_player_gets_a_gradient():
    method = SPI2I(SPI2I.settings_type(**TINY, lambda_r1=0.1, lambda_order=0.1))
    networks = method.networks(tiny_generator(), 3, 3)
    seen, order = {}, []

    def collect(loss):
        order.append(loss.player)
        for name in method.players[loss.player]:
            for key, parameter in networks[name].named_parameters():
                alive = parameter.grad is not None and bool(parameter.grad.abs().max() > 0)
                seen[f"{name}.{key}"] = seen.get(f"{name}.{key}", False) or alive

    play(method, networks, [tiny_batch(), tiny_batch()], hook=collect)
    assert order == ["critic", "energy", "generator"] * 2
    assert [name for name, alive in seen.items() if not alive] == []


def test_the_generators_loss_leaves_critic_and_energy_without_gradients():
    method = SPI2I(SPI2I.settings_type(**TINY))
    networks = method.networks(tiny_generator(), 3, 3)
    *_, last = method.losses(networks, tiny_batch())
    last.value.backward()
    assert last.player == "generator"
    for name in ("critic", "energy"):
        assert all(p.grad is None and p.requires_grad for p in networks[name].parameters())


def test_time_changes_the_output_after_one_update():
    method = SPI2I(SPI2I.settings_type(**TINY))
    networks = method.networks(tiny_generator(), 3, 3)
    play(method, networks, [tiny_batch()])
    image, style = torch.rand(1, 3, 32, 32), torch.randn(1, 8)
    outputs = [networks["generator"](image, torch.full((1,), float(i)), style) for i in (0, 4)]
    assert (outputs[0] - outputs[1]).abs().mean() > 1e-4


def test_time_changes_what_a_critic_and_a_gate_say():
    image = torch.rand(2, 3, 32, 32)
    for network in (PatchCritic(3, 8, 2), PatchCritic(3, 8, 2, norm="instance"), Gate(3, 3)):
        first, last = (network(image, torch.full((2,), float(i))) for i in (0, 4))
        assert (first - last).abs().max() > 1e-5


# --- the gate ----------------------------------------------------------------------------------


@pytest.mark.parametrize("learned", [False, True])
def test_gate_weights_are_fractions_one_per_level_with_the_residual_last(learned):
    weights = Gate(3, 6, learned)(torch.rand(2, 3, 32, 32), torch.zeros(2))
    assert weights.shape == (2, 7)
    assert ((weights >= 0) & (weights <= 1)).all()
    assert ((weights[:, :6] > 0.5) & (weights[:, :6] < 0.9)).all()
    assert bool((weights[:, 6] == 1).all()) is not learned


def test_a_closed_gate_keeps_the_critics_gradient_out_of_the_fine_bands():
    critic, prediction = PatchCritic(3, 16, 3), torch.rand(2, 3, 64, 64, requires_grad=True)
    weights = torch.tensor([0.0, 0, 0, 0, 1])
    adversarial_loss(critic(reconstruct(decompose(prediction, 4), weights), torch.zeros(2))).backward()
    # Four pixels at the border are left out: reflection folds the critic's gradient back onto itself there.
    inside = prediction.grad[..., 4:-4, 4:-4]
    fine = decompose(prediction.grad, 1)[0][..., 4:-4, 4:-4]
    assert inside.abs().max() > 0
    assert fine.square().sum() < 0.01 * inside.square().sum()


def gradients_of_the_gate(term, **settings):
    """The gate's largest gradient when only `term` of the generator's loss counts."""
    off = {"lambda_gan": 0.0, "lambda_spatial": 0.0, "lambda_sb": 0.0}
    method = SPI2I(SPI2I.settings_type(**TINY, **(off | {term: 1.0} | settings)))
    networks = method.networks(tiny_generator(), 3, 3)
    play(method, networks, [tiny_batch()])  # away from the identity, where the spatial loss is zero
    for p in networks["gate"].parameters():
        p.grad = None
    *_, last = method.losses(networks, tiny_batch())
    last.value.backward()
    return max(0.0 if p.grad is None else p.grad.abs().max().item() for p in networks["gate"].parameters())


def test_the_gate_learns_from_the_critic_and_not_from_the_spatial_loss():
    assert gradients_of_the_gate("lambda_gan") > 0
    assert gradients_of_the_gate("lambda_spatial") == 0
    assert gradients_of_the_gate("lambda_spatial", spatial_weights="one_minus_gate") == 0
    assert gradients_of_the_gate("lambda_spatial", spatial_weights="one_minus_gate_with_gradient") > 0


@pytest.mark.parametrize(
    ("weights", "broken"),
    [((0.1, 0, 0.19), "closed"), ((0.96, 1, 0.99), "opened"), ((0.01, 0.1, 0.8), None), ((0.96, 1, 0.9), None)],
)
def test_verdict_names_a_gate_that_is_all_closed_or_all_open(weights, broken):
    method = SPI2I(SPI2I.settings_type(**TINY))
    verdict = method.check_collapse({f"w_{j}": w for j, w in enumerate((*weights, 1.0))})
    assert verdict is None if broken is None else broken in verdict


def blurred_batches(count):
    for _ in range(count):
        batch = {name: torch.randn(4, 3, 32, 32).clamp(-1, 1) for name in ("source", "source2", "target")}
        batch["target"] = torch.nn.functional.avg_pool2d(batch["target"], 5, 1, 2)
        yield batch


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "broken"),
    [
        # A generator that starts near the identity has little spatial loss to evade, hence the weight.
        ({"spatial_weights": "one_minus_gate_with_gradient", "lambda_spatial": 100.0}, "opened"),
        ({"critic_sees": "target_gated_alike", "residual_weight": "learned"}, "closed"),
        ({}, None),
    ],
    ids=["gradient from the spatial loss", "both inputs gated alike", "sound"],
)
def test_broken_gatings_are_found_by_the_verdict_and_the_sound_one_is_not(settings, broken):
    """Specs, 3.6: the negative controls collapse within few iterations; a fast gate shows it sooner."""
    method = SPI2I(SPI2I.settings_type(**TINY, lambda_sb=0.0, gate_lr_factor=1.0, **settings))
    networks = method.networks(tiny_generator(), 3, 3)
    parts = play(method, networks, blurred_batches(150), lr=2e-3)
    verdict = method.check_collapse(parts)
    assert verdict is None if broken is None else verdict and broken in verdict, parts


# --- the losses --------------------------------------------------------------------------------


def test_spatial_loss_is_blind_to_colour_at_equal_luminance():
    source = torch.rand(2, 3, 32, 32)
    assert spatial_loss(source, source, [1.0, 0.5]) == 0
    # A change d of red and blue with 0.299 d_r + 0.114 d_b = 0 keeps Rec. 601 luminance.
    change = torch.rand(2, 1, 32, 32)
    recoloured = source + change * torch.tensor([0.114, 0, -0.299]).reshape(1, 3, 1, 1)
    assert spatial_loss(recoloured, source, [1.0, 0.5]) < 1e-6
    assert spatial_loss(source + 0.3, source, [1.0, 0.5]) < 1e-6


def test_spatial_loss_weighs_each_sample_by_its_own_row():
    source, prediction = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32)
    each = [spatial_loss(prediction[k:k + 1], source[k:k + 1], [1.0, 0.5]) for k in range(2)]
    rows = torch.tensor([[1.0, 0.5], [0.0, 0.0]])
    torch.testing.assert_close(spatial_loss(prediction, source, rows), each[0] / 2)


def test_energy_loss_of_a_constant_energy_is_in_closed_form():
    """E = c everywhere: -c + l + l^2 with l = c + log(number of patches)."""
    level = 0.5 + math.log(2 * 4 * 4)
    value = energy_loss(torch.full((2, 1, 4, 4), 0.5), torch.full((2, 1, 4, 4), 0.5))
    assert value.item() == pytest.approx(-0.5 + level + level**2, rel=1e-6)


# --- the method --------------------------------------------------------------------------------


def test_a_few_steps_stay_finite_and_log_every_weight():
    method = METHODS["sp_i2i"](SPI2I.settings_type(**TINY))
    networks = method.networks(tiny_generator(4), 4, 4)
    parts = play(method, networks, [tiny_batch(4) for _ in range(10)])
    assert all(math.isfinite(value) for value in parts.values())
    assert {"critic", "energy", "adversarial", "spatial", "bridge", "w_0", "w_1", "w_2", "w_3"} == set(parts)
    assert method.check_collapse(parts) is None


def test_the_same_seed_gives_the_same_losses():
    method, results = SPI2I(SPI2I.settings_type(**TINY)), []
    for _ in range(2):
        torch.manual_seed(3)
        networks = method.networks(tiny_generator(), 3, 3)
        results.append(play(method, networks, [tiny_batch() for _ in range(3)]))
    assert results[0] == results[1]


def test_without_gate_and_bridge_loss_their_networks_do_not_exist():
    method = SPI2I(SPI2I.settings_type(**TINY, gating=False, lambda_sb=0.0))
    networks = method.networks(tiny_generator(), 3, 3)
    assert set(networks) == {"generator", "critic"} == set(method.lr_factor)
    parts = play(method, networks, [tiny_batch()])
    assert method.check_collapse(parts) is None and not any(name.startswith("w_") for name in parts)


def test_unequal_band_counts_are_refused():
    with pytest.raises(RecipeError, match="3 and 4"):
        SPI2I(SPI2I.settings_type()).networks(tiny_generator(), 3, 4)


def test_a_model_ships_the_sampler_it_was_trained_on():
    method = SPI2I(SPI2I.settings_type(steps=4, tau=0.02))
    assert method.steps() == schrodinger_bridge_table(4, 0.02)
    generator, source = tiny_generator(), torch.rand(1, 3, 32, 32)
    state = rollout(method.steps(), generator, source, 3)
    made = predict(method.steps(), method.steps().steps[-1], generator, state, source,
                   draw_style(generator, source))
    assert made.shape == source.shape
