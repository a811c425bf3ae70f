"""Laws of the step table: one affine recurrence reproduces every textbook sampler."""

import math

import pytest
import torch
from geoi2i.core.inference.sampler import advance, predict, sample
from geoi2i.core.inference.steps import (
    Step,
    StepTable,
    generator_table,
    identity_table,
    schrodinger_bridge_table,
    schrodinger_bridge_times,
)
from hypothesis import given
from hypothesis import strategies as st


def rand(seed, *shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


SHAPE = (2, 3, 4, 5)
SOURCE, EPS = rand(0, *SHAPE), [rand(10 + i, *SHAPE) for i in range(60)]


def net(x, time, style=None):
    """Any function of the image and the time will do."""
    return torch.sin(1.3 * x + 0.7 * time[:, None, None, None]) - 0.2 * x


def at(value):
    return torch.full((2,), value, dtype=torch.float64)


def run(table, source=SOURCE):
    """The chain as the package runs it."""
    return sample(table, net, source, lambda number, image: EPS[number - 1], lambda: None)


def close(a, b):
    torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_bridge_times_are_those_of_the_paper():
    assert schrodinger_bridge_times(5) == pytest.approx([0, 0.5, 0.74, 0.86, 0.94, 1], abs=1e-6)


def test_bridge_weights_and_noise_are_those_of_the_paper():
    steps = schrodinger_bridge_table(5, tau=0.01).steps
    assert [s.time for s in steps] == [0, 1, 2, 3, 4]
    assert [s.pull for s in steps] == pytest.approx([1 / 2, 12 / 25, 6 / 13, 4 / 7, 1], abs=1e-6)
    assert [s.keep for s in steps] == pytest.approx([1 / 2, 13 / 25, 7 / 13, 3 / 7, 0], abs=1e-6)
    stds = [math.sqrt(0.0025), math.sqrt(0.001248), math.sqrt(0.0026 * 42 / 169), math.sqrt(0.0014 * 12 / 49), 0]
    assert [s.noise for s in steps] == pytest.approx(stds, abs=1e-6)
    assert [s.noise for s in steps[:4]] == pytest.approx([0.0500, 0.0353, 0.0254, 0.0185], abs=5e-5)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 10])
def test_bridge_table_is_the_textbook_recurrence(count):
    tau, t = 0.3, [0.0]
    increments = [0, *(1 / k for k in range(1, count))]
    t += [0.5 + 0.5 * sum(increments[: k + 1]) / max(sum(increments), 1e-300) for k in range(count)]
    x = SOURCE
    for i in range(1, count):
        s = (t[i] - t[i - 1]) / (1 - t[i - 1])
        std = math.sqrt(s * (1 - s) * (1 - t[i - 1]) * tau)
        x = (1 - s) * x + s * net(x, at(i - 1)) + std * EPS[i - 1]
    close(run(schrodinger_bridge_table(count, tau)), net(x, at(count - 1)))


def alpha_bars(count):
    betas = torch.linspace(1e-3, 0.2, 50, dtype=torch.float64)
    chosen = torch.linspace(49, 0, count).round().long()
    return torch.cumprod(1 - betas, 0)[chosen].tolist()


def ddim_table(bars, eta):
    steps = []
    for i, (a, b) in enumerate(zip(bars, [*bars[1:], 1.0])):
        std = eta * math.sqrt((1 - b) / (1 - a) * (1 - a / b))
        along = math.sqrt(1 - b - std**2) / math.sqrt(1 - a)
        steps.append(Step(time=i, c_skip=1 / math.sqrt(a), c_out=-math.sqrt(1 / a - 1), keep=along,
                          pull=math.sqrt(b) - math.sqrt(a) * along, noise=std))
    return StepTable(steps=tuple(steps), source_gain=0.0, noise_std=1.0)


@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
def test_ddim_is_a_table(eta):
    """Song et al. 2021, equation 12."""
    bars, x = alpha_bars(10), EPS[-1]
    for i, (a, b) in enumerate(zip(bars, [*bars[1:], 1.0])):
        eps = net(x, at(i))
        clean = (x - math.sqrt(1 - a) * eps) / math.sqrt(a)
        std = eta * math.sqrt((1 - b) / (1 - a)) * math.sqrt(1 - a / b)
        x = math.sqrt(b) * clean + math.sqrt(1 - b - std**2) * eps + std * EPS[i]
    close(run(ddim_table(bars, eta)), x)


def test_ddpm_is_a_table():
    """Ho et al. 2020, algorithm 2 with the posterior variance; every step of the training schedule."""
    bars, x = alpha_bars(50), EPS[-1]
    for i, (bar, before) in enumerate(zip(bars, [*bars[1:], 1.0])):
        alpha = bar / before
        mean = (x - (1 - alpha) / math.sqrt(1 - bar) * net(x, at(i))) / math.sqrt(alpha)
        x = mean + math.sqrt((1 - before) / (1 - bar) * (1 - alpha)) * EPS[i]
    torch.testing.assert_close(run(ddim_table(bars, 1.0)), x, rtol=1e-12, atol=1e-11)  # 50 steps of gain > 1


def test_flow_euler_is_a_table():
    """Rectified flow (Liu et al. 2022): x' = x + (t' - t) v(x, t), from noise at t = 1 to the image at 0."""
    times = [1.0, 0.8, 0.5, 0.3, 0.1, 0.0]
    steps = tuple(Step(time=t, c_skip=1, c_out=-t, keep=u / t, pull=1 - u / t) for t, u in zip(times, times[1:]))
    x = EPS[-1]
    for t, u in zip(times, times[1:]):
        x = x + (u - t) * net(x, at(t))
    close(run(StepTable(steps=steps, source_gain=0, noise_std=1)), x)


def test_dpm_solver_2m_is_a_table():
    """Lu et al. 2022, DPM-Solver++(2M), algorithm 2, for a network that predicts the noise."""
    bars = alpha_bars(8)
    alpha, sigma = [math.sqrt(a) for a in bars], [math.sqrt(1 - a) for a in bars]
    half = [math.log(a / s) for a, s in zip(alpha, sigma)]
    steps, x, before = [], EPS[-1], None
    for i in range(7):
        h = half[i + 1] - half[i]
        clean = (x - sigma[i] * net(x, at(i))) / alpha[i]
        r = (half[i] - half[i - 1]) / h if i else math.inf
        mixed = clean if before is None else (1 + 1 / (2 * r)) * clean - 1 / (2 * r) * before
        x, before = sigma[i + 1] / sigma[i] * x - alpha[i + 1] * math.expm1(-h) * mixed, clean
        pull = -alpha[i + 1] * math.expm1(-h)
        steps.append(Step(time=i, c_skip=1 / alpha[i], c_out=-sigma[i] / alpha[i], keep=sigma[i + 1] / sigma[i],
                          pull=pull * (1 + 1 / (2 * r)), memory=-pull / (2 * r)))
    close(run(StepTable(steps=tuple(steps), source_gain=0, noise_std=1)), x)


numbers = st.floats(-2, 2, allow_nan=False) | st.sampled_from([0.0, 1.0])
steps_of_any_kind = st.builds(Step, time=numbers, c_in=numbers, in_source=numbers, c_skip=numbers, c_source=numbers,
                              c_out=numbers, keep=numbers, pull=numbers, memory=numbers, source=numbers,
                              noise=st.floats(0, 2))


@given(steps_of_any_kind, st.booleans())
def test_one_step_is_the_equation_of_its_row(step, clipped):
    table = StepTable(steps=(step,), clip=(-0.5, 0.5) if clipped else None)
    x, source, previous, eps = (rand(i, *SHAPE) for i in range(1, 5))
    shown = step.c_in * x + step.in_source * source
    x_hat = step.c_skip * x + step.c_source * source + step.c_out * net(shown, at(step.time))
    x_hat = x_hat.clip(-0.5, 0.5) if clipped else x_hat
    after = (step.keep * x + step.pull * x_hat + step.memory * previous + step.source * source + step.noise * eps)
    found = predict(table, step, net, x, source)
    close(found, x_hat)
    close(advance(step, x, found, previous, source, eps), after)


def test_terms_without_weight_are_never_touched():
    nan = torch.full(SHAPE, math.nan, dtype=torch.float64)
    step = Step(c_skip=1, c_out=0)
    assert torch.equal(advance(step, nan, predict(StepTable(steps=(step,)), step, None, SOURCE, None), None, None,
                               None), SOURCE)


def test_source_joins_the_channels_where_the_table_says_so():
    table = StepTable(steps=(Step(c_in=2),), concatenate_source=True)
    shown = predict(table, table.steps[0], lambda x, time, style: x, SOURCE, 5 + SOURCE)
    assert torch.equal(shown, torch.cat([2 * SOURCE, 5 + SOURCE], 1))


def test_identity_and_generator():
    assert torch.equal(run(identity_table()), SOURCE)
    assert not identity_table().uses_network and not identity_table().stochastic
    assert torch.equal(run(generator_table()), net(SOURCE, at(0)))
    assert generator_table().uses_network and schrodinger_bridge_table(2).stochastic
