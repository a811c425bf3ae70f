"""Laws of processes: their samplers are the papers' own posteriors, and a network that knows the answer finds it."""

import math

import pytest
import torch
from geoi2i.core.sampler import advance, predict
from geoi2i.training.diffusion import brownian_bridge, mismatch, schrodinger_bridge

PROCESSES = {"bbdm": lambda head: brownian_bridge(100, 1.0, head),
             "i2sb": lambda head: schrodinger_bridge(100, 0.3, head)}


@pytest.fixture(params=PROCESSES)
def make(request):
    return PROCESSES[request.param]


def test_end_points_are_those_of_the_papers():
    bbdm, i2sb = brownian_bridge(1000, 1.0, "native"), schrodinger_bridge(1000, 0.3, "native")
    assert bbdm.s.max().item() == pytest.approx(math.sqrt(0.5), abs=1e-3)
    assert (bbdm.b[1].item(), bbdm.b[-1].item()) == (pytest.approx(0.001), pytest.approx(0.999))
    assert i2sb.s.max().item() == pytest.approx(0.19, abs=0.005)
    assert (i2sb.a[0].item(), i2sb.a[-1].item(), i2sb.s[-1].item()) == (1, 0, 0)


def test_brownian_bridge_steps_as_its_paper_says():
    """Li et al. 2023, equations 12 to 14: the posterior of x_{t-1}, with delta_t the variance and m_t the share."""
    process = brownian_bridge(50, 0.7, "clean")
    table = process.table(50, 1.0, False)
    generator = torch.Generator().manual_seed(0)
    for k, step in list(enumerate(table.steps))[:-1]:
        t = 50 - k
        m, before = process.b[t].item(), process.b[t - 1].item()
        delta, delta_before = process.s[t].item() ** 2, process.s[t - 1].item() ** 2
        ratio = (1 - m) / (1 - before)
        between = delta - delta_before * ratio**2  # delta_{t|t-1}
        x, clean, source = (torch.randn(3, 2, 2, 2, generator=generator, dtype=torch.float64))
        mean = (delta_before / delta * ratio * x + (1 - before) * between / delta * clean
                + (before - m * ratio * delta_before / delta) * source)
        found = advance(step.model_copy(update={"noise": 0.0}), x, clean, None, source, None)
        assert torch.allclose(found, mean, atol=1e-9)
        assert step.noise**2 == pytest.approx(between * delta_before / delta, abs=1e-12)


def test_schrodinger_bridge_steps_as_its_paper_says():
    """Liu et al. 2023, equation 4 with exact B: p(x_n | x_0, x_t) is the product of two Gaussians."""
    process = schrodinger_bridge(40, 0.3, "clean")
    table = process.table(40, 1.0, False)
    forward = process.b.double()  # F / (F + B), so in units of the whole variance
    scale = (process.s[20] ** 2 / (forward[20] * (1 - forward[20]))).item()
    for k, step in list(enumerate(table.steps))[:-1]:
        t, n = 40 - k, 39 - k
        near, far = forward[n].item() * scale, (forward[t] - forward[n]).item() * scale  # variances to x_0, to x_t
        assert step.pull == pytest.approx(far / (near + far), abs=1e-6) and step.source == pytest.approx(
            0 if t < 40 else near / (near + far), abs=1e-6)
        if t < 40:
            assert step.keep == pytest.approx(near / (near + far), abs=1e-6)
        assert step.noise**2 == pytest.approx(near * far / (near + far), rel=1e-6)


@pytest.mark.parametrize("head", ["native", "clean"])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("steps", [1, 3, 7, 100])
def test_a_network_that_knows_the_answer_finds_it(make, head, eta, steps):
    process, generator = make(head), torch.Generator().manual_seed(0)
    clean, source = torch.randn(2, 1, 2, 4, 4, generator=generator, dtype=torch.float64)
    table, x = process.table(steps, eta, False), source
    for step in table.steps:
        def oracle(shown, time, style):
            return process.wanted(clean, shown, time.long())

        x_hat = predict(table, step, oracle, x, source)
        assert torch.allclose(x_hat, clean, atol=1e-9)
        x = advance(step, x, x_hat, None, source, torch.randn(x.shape, generator=generator, dtype=x.dtype))
    assert torch.allclose(x, clean, atol=1e-9)


def test_sampled_states_have_the_deviation_of_trained_ones(make):
    """Whatever eta: half-way along, mean and deviation are those that the network was trained on."""
    process = make("clean")
    for eta in (0.4, 1.0):
        generator, noisy = torch.Generator().manual_seed(0), 200_000
        clean, source = torch.full((noisy,), 0.3, dtype=torch.float64), torch.full((noisy,), -0.8, dtype=torch.float64)
        x = process.a[-1] * clean + process.b[-1] * source
        x = x + process.s[-1] * torch.randn(noisy, generator=generator, dtype=torch.float64)
        for step in process.table(100, eta, False).steps[:60]:
            eps = torch.randn(noisy, generator=generator, dtype=torch.float64)
            x = advance(step, x, clean, None, source, eps)
        t = 40
        if eta == 1.0 or process.s[-1] > 0:
            assert x.std().item() == pytest.approx(process.s[t].item(), abs=0.01)
        assert x.mean().item() == pytest.approx((process.a[t] * 0.3 - process.b[t] * 0.8).item(), abs=0.01)


def test_what_is_missed_is_zero_for_a_network_that_knows(make):
    process = make("native")
    clean, source = torch.randn(2, 4, 3, 8, 8).double()
    seen = []

    def oracle(shown, time, style):
        seen.append(shown.shape)
        return process.wanted(clean, shown[:, :3], time.long())

    assert mismatch(process, oracle, clean, source, True).abs().max() < 1e-9
    assert seen == [(4, 6, 8, 8)]
