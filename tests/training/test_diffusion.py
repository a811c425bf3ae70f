"""Laws of processes: their samplers are the papers' own posteriors, and a network that knows the answer finds it."""

import math

import pytest
import torch
from geoi2i.core.errors import RecipeError
from geoi2i.core.inference.sampler import advance, predict, start
from geoi2i.training.diffusion import mismatch
from geoi2i.training.methods import METHODS
from geoi2i.training.schedules import (
    brownian_bridge,
    controlled_bridge,
    denoising_diffusion,
    residual_shifting,
    schrodinger_bridge,
    straight_flow,
)

PROCESSES = {"bbdm": lambda head: brownian_bridge(100, 1.0, head),
             "i2sb": lambda head: schrodinger_bridge(100, 0.3, head),
             "sr3": lambda head: denoising_diffusion(100, "linear", 1e-3, 0.1, head),
             "sr3 cosine": lambda head: denoising_diffusion(100, "cosine", 0, 0, head),
             "resshift": lambda head: residual_shifting(100, 2.0, 0.04, 0.99, 0.3),
             "flow": lambda head: straight_flow(100, "noise", 0, head),
             "flow from source": lambda head: straight_flow(100, "source", 0.01, head),
             "unidb": lambda head: controlled_bridge(100, 60 / 255, 1e-7, head),
             "goub": lambda head: controlled_bridge(100, 60 / 255, 0.0, head)}


@pytest.fixture(params=PROCESSES)
def make(request):
    return PROCESSES[request.param]


def test_end_points_are_those_of_the_papers():
    bbdm, i2sb = brownian_bridge(1000, 1.0, "native"), schrodinger_bridge(1000, 0.3, "native")
    assert bbdm.s.max().item() == pytest.approx(math.sqrt(0.5), abs=1e-3)
    assert (bbdm.b[1].item(), bbdm.b[-1].item()) == (pytest.approx(0.001), pytest.approx(0.999))
    assert i2sb.s.max().item() == pytest.approx(0.19, abs=0.005)
    assert (i2sb.a[0].item(), i2sb.a[-1].item(), i2sb.s[-1].item()) == (1, 0, 0)
    resshift = residual_shifting(15, 2.0, 0.04, 0.99, 0.3)
    assert (resshift.b[1].item(), resshift.b[-1].item()) == (pytest.approx(0.0004), pytest.approx(0.99**2, abs=1e-9))
    unidb = controlled_bridge(100, 30 / 255, 1e-7, "native")
    assert unidb.a[-1].item() < 1e-6 and unidb.s[-1].item() == 0 and unidb.c_out[-1].item() == 0
    sr3 = denoising_diffusion(2000, "linear", 1e-6, 1e-2, "native")
    assert sr3.a[-1].item() == pytest.approx(math.exp(0.5 * sum(math.log(1 - b) for b in torch.linspace(
        1e-6, 1e-2, 2000, dtype=torch.float64))), rel=1e-9)
    flow = straight_flow(10, "noise", 0.0, "native")
    assert (flow.a[5].item(), flow.s[5].item(), flow.start) == (0.5, 0.5, (0.0, 1.0))


def test_unidb_has_the_cosine_schedule_of_the_public_code():
    """IR-SDE's, which UniDB builds on: 102 divisions for 100 steps, the first theta left out, e^-theta_T = .005 in the
    end. Without control, a = e^-theta_t (1 - e^-2(theta_T - theta_t)) / (1 - e^-2theta_T)."""
    shares = [math.cos((k / 102 + 0.008) / 1.008 * math.pi / 2) ** 2 for k in range(103)]
    thetas = [1 - share / shares[0] for share in shares[1:-1]]
    ends = [sum(thetas[1 : k + 1]) for k in range(101)]
    ends = [end * -math.log(0.005) / ends[-1] for end in ends]
    process = controlled_bridge(100, 30 / 255, 0.0, "native")
    for k in (1, 50, 99):
        left = ends[-1] - ends[k]
        wanted = math.exp(-ends[k]) * math.sinh(left) * math.exp(-left) / (math.sinh(ends[-1]) * math.exp(-ends[-1]))
        assert process.a[k].item() == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("name", [name for name in PROCESSES if name != "resshift"])
def test_steps_are_the_posterior_by_bayes(name):
    """Of a Gaussian chain: x_n ~ N(a_n x0 + b_n y, s_n^2), x_t | x_n ~ N(k x_n + (b_t - k b_n) y, s_t^2 - k^2 s_n^2);
    the product of both densities in x_n. For BBDM these are its equations 12 to 14, for DDPM its equation 7."""
    process, generator = PROCESSES[name]("clean"), torch.Generator().manual_seed(0)
    table, clean, source = process.table(100, 1.0, False), *torch.randn(2, 8, generator=generator, dtype=torch.float64)
    for k, step in list(enumerate(table.steps))[:-1]:
        t, n = 100 - k, 99 - k
        (a, b, s), (a_n, b_n, s_n) = ([float(each[i]) for each in (process.a, process.b, process.s)] for i in (t, n))
        x = a * clean + b * source + s * torch.randn(8, generator=generator, dtype=torch.float64)
        ratio = a / a_n
        between, prior = s**2 - (ratio * s_n) ** 2, a_n * clean + b_n * source
        precision = 1 / s_n**2 + ratio**2 / between if between > 1e-15 else math.inf
        if s == 0 or precision == math.inf:
            continue
        mean = (prior / s_n**2 + ratio * (x - (b - ratio * b_n) * source) / between) / precision
        found = advance(step.model_copy(update={"noise": 0.0}), x, clean, None, source, None)
        assert torch.allclose(found, mean, atol=1e-9)
        assert step.noise**2 == pytest.approx(1 / precision, abs=1e-12)


def test_resshift_steps_as_its_paper_says():
    """Yue et al. 2023, equation 7: mean eta_n/eta_t x_t + alpha_t/eta_t x0, variance kappa^2 eta_n/eta_t alpha_t."""
    process, generator = residual_shifting(15, 2.0, 0.04, 0.99, 0.3), torch.Generator().manual_seed(0)
    x, clean, source = torch.randn(3, 8, generator=generator, dtype=torch.float64)
    for k, step in enumerate(process.table(15, 1.0, False).steps[:-1]):
        eta, before = float(process.b[15 - k]), float(process.b[14 - k])
        found = advance(step.model_copy(update={"noise": 0.0}), x, clean, None, source, None)
        assert torch.allclose(found, before / eta * x + (eta - before) / eta * clean, atol=1e-9)
        assert step.noise**2 == pytest.approx(4 * before / eta * (eta - before), abs=1e-9)


def test_flow_takes_eulers_steps():
    """x_{u-h} = x_u - h v, whatever the network's v."""
    table, x = straight_flow(20, "noise", 0.0, "native").table(20, 0.0, False), torch.randn(1, 1, 2, 2).double()
    for k, step in enumerate(table.steps):
        v = torch.randn(1, 1, 2, 2).double()
        x_hat = predict(table, step, lambda *shown, v=v: v, x, None)
        assert torch.allclose(advance(step, x, x_hat, None, None, None), x - v / 20 if k < 19 else x_hat, atol=1e-9)


@pytest.mark.parametrize("head", ["native", "clean"])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("steps", [1, 3, 7, 100])
def test_a_network_that_knows_the_answer_finds_it(make, head, eta, steps):
    process, generator = make(head), torch.Generator().manual_seed(0)
    clean, source = torch.randn(2, 1, 2, 4, 4, generator=generator, dtype=torch.float64)
    table = process.table(steps, eta, False)
    x = start(table, source, torch.randn(source.shape, generator=generator, dtype=source.dtype))
    for k, step in enumerate(table.steps):
        def oracle(shown, time, style):
            return process.wanted(clean, shown / process.c_in[time.long()], source, time.long())

        x_hat = predict(table, step, oracle, x, source)
        if k or step.c_out:  # at the source itself UniDB asks nobody
            assert torch.allclose(x_hat, clean, atol=1e-7)
        x = advance(step, x, x_hat, None, source, torch.randn(x.shape, generator=generator, dtype=x.dtype))
    assert torch.allclose(x, clean, atol=1e-7) or (steps == 1 and not step.c_out)


@pytest.mark.slow
def test_sampled_states_have_the_deviation_of_trained_ones(make):
    """Whatever eta: half-way along, mean and deviation are those that the network was trained on."""
    process = make("clean")
    for eta in (0.0, 0.4, 1.0):
        generator, noisy = torch.Generator().manual_seed(0), 200_000
        clean, source = torch.full((noisy,), 0.3, dtype=torch.float64), torch.full((noisy,), -0.8, dtype=torch.float64)
        table = process.table(100, eta, False)
        x = process.a[-1] * clean + process.b[-1] * source
        x = x + process.s[-1] * torch.randn(noisy, generator=generator, dtype=torch.float64)
        for step in table.steps[:60]:
            eps = torch.randn(noisy, generator=generator, dtype=torch.float64)
            x = advance(step, x, clean, None, source, eps)
        t = 40
        assert x.std().item() == pytest.approx(process.s[t].item(), abs=0.01)
        assert x.mean().item() == pytest.approx((process.a[t] * 0.3 - process.b[t] * 0.8).item(), abs=0.01)


@pytest.mark.parametrize("head", ["native", "clean"])
def test_what_is_missed_is_zero_for_a_network_that_knows(make, head):
    process = make(head)
    clean, source = torch.randn(2, 4, 3, 8, 8).double()
    seen = []

    def oracle(shown, time, style):
        index = time.long()
        seen.append(shown.shape)
        assert (process.weight[index] > 0).all() and (process.c_out[index] != 0).all()
        return process.wanted(clean, shown[:, :3] / process.c_in[index][:, None, None, None], source, index)

    assert mismatch(process, oracle, clean, source, True).abs().max() < 1e-7
    assert seen == [(4, 6, 8, 8)]


def test_states_are_shown_with_unit_deviation(make):
    """Of images of deviation 1/2: at every index, before the network sees them."""
    process, generator = make("native"), torch.Generator().manual_seed(0)
    clean, source = 0.5 * torch.randn(2, 50_000, generator=generator, dtype=torch.float64)
    for t in (1, 30, 60, 100):
        noise = torch.randn(50_000, generator=generator, dtype=torch.float64)
        state = process.a[t] * clean + process.b[t] * source + process.s[t] * noise
        assert (process.c_in[t] * state).std().item() == pytest.approx(1, abs=0.02)


def test_the_loss_of_unidb_is_that_of_the_reverse_mean():
    """What the network's eps is off, times the weight, is what the mean of x_{t-1} is off."""
    process, generator = controlled_bridge(100, 60 / 255, 1e-7, "native"), torch.Generator().manual_seed(0)
    table = process.table(100, 1.0, False)
    clean, source = torch.randn(2, 1, 1, 4, 4, generator=generator, dtype=torch.float64)
    for k in (1, 20, 70, 98):
        t, step = 100 - k, table.steps[k].model_copy(update={"noise": 0.0})
        noise, off = torch.randn(2, 1, 1, 4, 4, generator=generator, dtype=torch.float64)
        x = process.a[t] * clean + process.b[t] * source + process.s[t] * noise
        means = [advance(step, x, predict(table, step, lambda *shown, e=e: e, x, source), None, source, None)
                 for e in (noise, noise + off)]
        assert torch.allclose((means[1] - means[0]).abs(), process.weight[t] * off.abs(), atol=1e-9)


def test_dgdm_begins_half_way_at_its_guess():
    """A network that knows: the state after the guess is the bridge's own at that index, and the end is the clean
    image."""
    from geoi2i.training.methods.dgdm import DGDM, Settings

    method = DGDM(Settings(steps=6, indices=100, sees_source=False))
    table, process = method.steps(), method.process
    clean, source = torch.randn(2, 1, 3, 8, 8, dtype=torch.float64)

    def oracle(shown, time, style):
        index = time.long()
        if int(index) == 101:
            return clean
        return process.wanted(clean, shown / process.c_in[index], source, index)

    tables = [table, *method.presets()]
    assert [len(each.steps) for each in tables] == [6, 4, 15, 50]
    for each in tables:
        x = start(each, source, None)
        for k, step in enumerate(each.steps):
            x_hat = predict(each, step, oracle, x, source)
            assert torch.allclose(x_hat, clean, atol=1e-7)
            x = advance(step.model_copy(update={"noise": 0.0}), x, x_hat, None, source, None)
            if k == 0:
                m = process.b[50]
                assert torch.allclose(x, (1 - m) * clean + m * source)
                assert step.noise == pytest.approx(process.s[50].item())
        assert torch.allclose(x, clean, atol=1e-7)
    assert set(process.draw(2000, torch.device("cpu")).tolist()) == set(range(1, 51))


@pytest.mark.parametrize("method", ["sr3", "bbdm", "unidb", "i2sb"])
def test_a_clean_head_is_taught_the_mean(method):
    """Of a clean image that is 0 in one pair of four and 1 in three; absolute values would teach 1."""
    class Guess(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.value = torch.nn.Parameter(torch.tensor(0.5))

        def forward(self, shown, time, style):
            return self.value.expand(len(shown), 1, *shown.shape[2:])

    made = METHODS[method](METHODS[method].settings_type(head="clean", sees_source=True))
    network, clean = Guess(), torch.tensor([0.0, 1, 1, 1])[:, None, None, None].expand(4, 1, 4, 4)
    optimiser = torch.optim.Adam(network.parameters(), 0.02)
    for _ in range(150):
        loss = next(made.losses({"generator": network}, {"source": torch.zeros(4, 1, 4, 4), "target": clean}))
        optimiser.zero_grad()
        loss.value.backward()
        optimiser.step()
    assert network.value.item() == pytest.approx(0.75, abs=0.02)


@pytest.mark.parametrize("method, settings, words", [
    ("flow", {"sees_source": False}, "Flow matching .* begins at noise, .* give settings.sees_source = true"),
    ("sr3", {"sees_source": False}, "SR3 begins at noise"),
    ("supresdiffgan", {"sees_source": False}, "SupResDiffGAN begins at noise"),
    ("resshift", {"steps": 16}, "ResShift has 15 indices and cannot take 16 different steps"),
    ("dgdm", {"indices": 100}, "DGDM goes through 50 indices and cannot take 100 different steps besides the guess")])
def test_choices_that_make_no_model_are_refused(method, settings, words):
    from geoi2i.core.networks.unet import UNet, UNetSizes

    made = METHODS[method](METHODS[method].settings_type(**settings))
    with pytest.raises(RecipeError, match=words):
        made.networks(UNet(UNetSizes(bands_in=6, bands_out=3, width=8, blocks=1, levels=1, embedding=8)), 3, 3)


@pytest.mark.parametrize("method", ["bbdm", "i2sb", "dgdm"])
@pytest.mark.parametrize("head", ["native", "clean"])
def test_a_bridge_begins_no_larger_than_its_state(method, head):
    """States are shown at unit deviation, twice what they are: a generator that began as the identity would give twice
    the image, and a chain of steps would give more and more."""
    from geoi2i.core.networks.resnet import ResnetGenerator, ResnetSizes

    made = METHODS[method](METHODS[method].settings_type(head=head, steps=20, sees_source=False))
    torch.manual_seed(0)
    network = made.networks(ResnetGenerator(ResnetSizes(bands_in=3, bands_out=3, width=8, blocks=1, style=0)), 3, 3)
    source = torch.rand(1, 3, 16, 16) * 2 - 1
    x, table = start(made.steps(), source, torch.randn(1, 3, 16, 16)), made.steps()
    with torch.no_grad():
        for step in table.steps:
            x_hat = predict(table, step, network["generator"], x, source)
            x = advance(step.model_copy(update={"noise": 0.0}), x, x_hat, None, source, None)
    assert x.abs().max() <= 1.3 * source.abs().max()
