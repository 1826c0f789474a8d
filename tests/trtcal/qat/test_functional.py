"""Fake quantization and its gradients: against the papers' formulas, and finite differences of a smooth surrogate.

The surrogate has, for each rounding, a constant added: what rounding did at the point looked at. It is smooth there,
and its derivatives are those that go straight through a rounding.
"""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra [torch])")

from hypothesis import given, settings
from hypothesis import strategies as st

from calibrators.encoding import Encoding
from calibrators.grid import Grid
from calibrators.weights import SMALLEST_SCALE
from trtcal.qat import functional

LEVELS = [(-128, 127), (-127, 127), (0, 255), (-8, 7), (-7, 7), (0, 15), (-2, 1), (0, 3)]
STEP = 1e-6


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


def values(rows=4, columns=14, seed=0):
    return torch.randn(rows, columns, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def gradients(function, *arguments):
    """Gradients of the sum of a function's values, each times a number of its own."""
    leaves = [each.clone().requires_grad_() for each in arguments]
    result = function(*leaves)
    factors = torch.arange(1, result.numel() + 1, dtype=torch.float64).reshape(result.shape) / result.numel()
    (result * factors).sum().backward()
    return [leaf.grad for leaf in leaves]


def differences(function, *arguments):
    """The same by central differences."""
    result = function(*arguments)
    factors = torch.arange(1, result.numel() + 1, dtype=torch.float64).reshape(result.shape) / result.numel()
    found = []
    for place, argument in enumerate(arguments):
        slope = torch.zeros_like(argument)
        for index in np.ndindex(*argument.shape):
            ends = []
            for sign in (1, -1):
                moved = [each.clone() for each in arguments]
                moved[place][index] += sign * STEP
                ends.append((function(*moved) * factors).sum())
            slope[index] = (ends[0] - ends[1]) / (2 * STEP)
        found.append(slope)
    return found


def along(parameter, axis):
    return parameter if axis is None else parameter.reshape(-1, 1)


def assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("n, p", LEVELS)
@pytest.mark.parametrize("axis", [None, 0])
def test_lsq_has_the_gradients_of_its_smooth_surrogate(n, p, axis):
    x, scale = values(), double(0.31) if axis is None else double(0.31, 0.02, 0.5, 1.7)
    scale = scale.squeeze() if axis is None else scale
    kept = torch.round((x / along(scale, axis)).clamp(n, p)) - (x / along(scale, axis)).clamp(n, p)

    def surrogate(x, s):
        return ((x / along(s, axis)).clamp(n, p) + kept) * along(s, axis)

    found = gradients(lambda x, s: functional.lsq(x, s, n, p, axis=axis), x, scale)
    assert_same(found, differences(surrogate, x, scale))


@pytest.mark.parametrize("n, p", LEVELS)
@pytest.mark.parametrize("axis", [None, 0])
@pytest.mark.parametrize("on_levels", [False, True])
def test_lsq_plus_has_the_gradients_of_its_smooth_surrogate(n, p, axis, on_levels):
    x = values()
    scale, offset = (double(0.31, 0.02, 0.5, 1.7), double(-0.4, 0.01, -1.5, 0.2))
    if axis is None:
        scale, offset = scale[0], offset[0]
    s0, b0 = along(scale, axis), along(offset, axis)
    if on_levels:
        b0 = -torch.round(-b0 / s0).clamp(n, p) * s0
    kept = torch.round(((x - b0) / s0).clamp(n, p)) - ((x - b0) / s0).clamp(n, p)
    moved = b0 - along(offset, axis)

    def surrogate(x, s, b):
        shift = along(b, axis) + moved
        return ((x - shift) / along(s, axis)).clamp(n, p) * along(s, axis) + kept * along(s, axis) + shift

    def function(x, s, b):
        return functional.lsq_plus(x, s, b, n, p, axis=axis, on_levels=on_levels)

    assert_same(gradients(function, x, scale, offset), differences(surrogate, x, scale, offset))


@pytest.mark.parametrize("n, p", LEVELS)
@pytest.mark.parametrize("axis", [None, 0])
def test_pact_has_the_gradients_of_the_clipping(n, p, axis):
    x, alpha = values(), double(0.9, 0.2, 3.0, 0.01)
    alpha = alpha[0] if axis is None else alpha

    def surrogate(x, a):
        high = along(a, axis)
        return torch.minimum(torch.maximum(x, high * n / p), high)

    found = gradients(lambda x, a: functional.pact(x, a, n, p, axis=axis), x, alpha)
    assert_same(found, differences(surrogate, x, alpha))


@pytest.mark.parametrize("minimum, maximum", LEVELS)
@pytest.mark.parametrize("axis", [None, 0])
@pytest.mark.parametrize("fixed", [False, True])
def test_a_learned_range_has_the_gradients_of_its_smooth_surrogate(minimum, maximum, axis, fixed):
    x = values()
    low, high = double(-0.83, -0.21, -1.5, -0.02), double(1.1, 0.6, 0.3, 2.2)
    if axis is None:
        low, high = low[0], high[0]
    zero = max(0, minimum) if fixed else None
    span = maximum - minimum
    s0 = (along(high, axis) - along(low, axis)) / span
    z0 = torch.full_like(s0, zero) if fixed else (minimum - torch.round(along(low, axis) / s0))
    kept_zero = torch.zeros_like(s0) if fixed else z0 - (minimum - along(low, axis) / s0)
    inside = (torch.round(x / s0) + z0).clamp(minimum, maximum) == torch.round(x / s0) + z0
    level = (torch.round(x / s0) + z0).clamp(minimum, maximum)
    kept = level - torch.where(inside, x / s0 + z0, level)

    def surrogate(x, low, high):
        s = (along(high, axis) - along(low, axis)) / span
        z = z0 if fixed else minimum - along(low, axis) / s + kept_zero
        return (torch.where(inside, x / s + z, level) + kept - z) * s

    def function(x, low, high):
        return functional.learned_range(x, low, high, minimum, maximum, axis=axis, zero_point=zero)

    assert_same(gradients(function, x, low, high), differences(surrogate, x, low, high))


@pytest.mark.parametrize("n, p", LEVELS)
def test_lsq_at_its_ends_and_on_ties(n, p):
    scale = torch.tensor(0.5, dtype=torch.float64)
    # exactly on either end the paper counts as outside; ties go to even; just inside, as inside
    levels = double(n - 1, n, n + 0.25, 0.5, p - 0.25, p, p + 1)
    x = (levels * scale).clone().requires_grad_()
    s = scale.clone().requires_grad_()
    result = functional.lsq(x, s, n, p)
    rounded = torch.round(levels.clamp(n, p))
    torch.testing.assert_close(result, rounded * scale)
    inside = (levels > n) & (levels < p)
    for place in range(len(levels)):
        of_x, of_s = torch.autograd.grad(result[place], (x, s), retain_graph=True)
        assert of_x[place] == float(inside[place])
        expected = rounded[place] - levels[place] if inside[place] else rounded[place]
        torch.testing.assert_close(of_s, expected)


def papers_lsq(x, step, n, p, gradient, gradient_scale):
    """Esser et al. 2020, equations 1 to 3, value by value; a step of x's rank: y, dx, ds."""
    v = x / step.abs()
    inside = (v > n) & (v < p)
    slope = torch.where(inside, torch.round(v) - v, torch.where(v <= n, float(n), float(p)))
    of_step = (gradient * slope).sum_to_size(step.shape) * gradient_scale * torch.sign(step)
    return torch.round(v.clamp(n, p)) * step.abs(), gradient * inside, of_step


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("axis", [None, 0, 1])
@pytest.mark.parametrize("n, p", LEVELS)
def test_lsq_is_the_paper_s_value_by_value(n, p, axis, dtype):
    generator = torch.Generator().manual_seed(2)
    shape = {None: (), 0: (6,), 1: (4,)}[axis]
    step = torch.rand(shape, dtype=dtype, generator=generator) + 0.1
    step = torch.where(torch.rand(shape, generator=generator) < 0.3, -step, step)
    step = step.requires_grad_()
    along = step.detach() if axis is None else step.detach().reshape([-1 if each == axis else 1 for each in range(4)])
    v = torch.randn(6, 4, 7, 5, dtype=dtype, generator=generator) * p
    special = [n - 0.6, n - 0.5, n - 0.4, n, n + 0.4, n + 0.5, 0.5, 1.5, p - 0.5, p - 0.4, p, p + 0.4, p + 0.5, p + 9]
    v[0, :, 0, :3] = torch.tensor(special[:12], dtype=dtype).reshape(4, 3)
    v[3:5, 1, 1, 1] = torch.tensor(special[12:], dtype=dtype)
    x = (v * along.abs()).contiguous(memory_format=torch.channels_last).requires_grad_()
    gradient = torch.randn(5, 7, 4, 6, dtype=dtype, generator=generator).transpose(0, 3).transpose(1, 2)
    result = functional.lsq(x, step, n, p, axis=axis, gradient_scale=0.3)
    result.backward(gradient)
    y, of_x, of_step = papers_lsq(x.detach(), along, n, p, gradient, 0.3)
    assert result.dtype == dtype and torch.equal(result, y) and torch.equal(x.grad, of_x)
    torch.testing.assert_close(step.grad, of_step.reshape(shape))


@pytest.mark.parametrize("axis", [None, 0])
def test_lsq_leaves_what_it_is_given_and_counts_an_expanded_gradient_whole(axis):
    x, scale = values().requires_grad_(), double(0.31, 0.02, 0.5, 1.7).requires_grad_()
    scale = scale if axis == 0 else scale[0].detach().requires_grad_()
    before = x.detach().clone(), scale.detach().clone()
    functional.lsq(x, scale, -8, 7, axis=axis).sum().backward()  # its gradient is one number, expanded
    expanded = x.grad, scale.grad
    x.grad = scale.grad = None
    functional.lsq(x, scale, -8, 7, axis=axis).backward(torch.ones_like(x))
    assert torch.equal(x.grad, expanded[0])
    torch.testing.assert_close(scale.grad, expanded[1])
    assert torch.equal(x.detach(), before[0]) and torch.equal(scale.detach(), before[1])


def test_pact_is_the_paper_s_at_its_ends():
    alpha = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    x = double(-1.0, 0.0, 1.0, math.nextafter(2.0, 0.0), 2.0, 5.0).requires_grad_()
    result = functional.pact(x, alpha, 0, 15)
    torch.testing.assert_close(result, double(0, 0, 8 * 2 / 15, 2, 2, 2))
    of_alpha = [torch.autograd.grad(each, alpha, retain_graph=True)[0].item() for each in result]
    assert of_alpha == [0, 0, 0, 0, 1, 1]
    (of_x,) = torch.autograd.grad(result.sum(), x)
    assert of_x.tolist() == [0, 1, 1, 1, 0, 0]


def test_a_learned_range_counts_what_rounds_onto_the_grid_as_inside():
    low, high = (torch.tensor(each, dtype=torch.float64, requires_grad=True) for each in (0.0, 15.0))
    x = double(-0.6, -0.4, 15.4, 15.6).requires_grad_()
    result = functional.learned_range(x, low, high, 0, 15)
    torch.testing.assert_close(result, double(0, 0, 15, 15))
    (of_x,) = torch.autograd.grad(result.sum(), x)
    assert of_x.tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize("n, p", LEVELS)
def test_gradient_scales_and_first_scales_are_the_papers(n, p):
    w = torch.randn(6, 5, 3, generator=torch.Generator().manual_seed(1))
    assert functional.lsq_gradient_scale(90, p) == pytest.approx(1 / math.sqrt(90 * p))
    array = w.numpy().astype(np.float64)
    assert functional.lsq_scale(w, p).item() == pytest.approx(2 * np.abs(array).mean() / math.sqrt(p), rel=1e-6)
    found = functional.lsq_scale(w, p, axis=1).numpy()
    np.testing.assert_allclose(found, 2 * np.abs(array).mean((0, 2)) / math.sqrt(p), rtol=1e-6)
    for axis, others in ((None, (0, 1, 2)), (0, (1, 2)), (1, (0, 2)), (2, (0, 1))):
        mu, sigma = array.mean(others), array.std(others)
        expected = np.maximum(np.abs(mu - 3 * sigma), np.abs(mu + 3 * sigma)) / 2 ** (4 - 1)
        found = functional.lsq_plus_weight_scale(w, 4, axis=axis).numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        np.testing.assert_array_equal(functional.absmax(w, axis=axis).numpy(), np.abs(w.numpy()).max(others))


def test_the_gradient_scale_is_that_of_the_step_alone():
    x, scale = values(), torch.tensor(0.3, dtype=torch.float64)
    plain = gradients(lambda x, s: functional.lsq(x, s, -8, 7), x, scale)
    scaled = gradients(lambda x, s: functional.lsq(x, s, -8, 7, gradient_scale=0.25), x, scale)
    torch.testing.assert_close(scaled[0], plain[0])
    torch.testing.assert_close(scaled[1], plain[1] / 4)


@settings(max_examples=60)
@given(
    bits=st.integers(2, 12),
    signed=st.booleans(),
    symmetric=st.booleans(),
    axis=st.sampled_from([None, 0, 1]),
    seed=st.integers(0, 1000),
)
def test_values_are_those_of_the_encoding(bits, signed, symmetric, axis, seed):
    random = np.random.default_rng(seed)
    grid = Grid(bits, signed=signed, symmetric=symmetric)
    shape = () if axis is None else ((3, 7)[axis],)
    scale = np.exp(random.normal(-2, 1, shape)).astype(np.float32)
    zero = random.integers(grid.minimum, grid.maximum + 1, shape) if not symmetric else grid.zero_point
    encoding = Encoding(scale, zero, grid, axis)
    x = (random.normal(0, 2, (3, 7)) * 2 ** random.integers(0, 4)).astype(np.float32)
    x.flat[:2] = (random.integers(-9, 9, 2) + 0.5) * scale.flat[0]  # ties
    expected = encoding.fake_quantize(x)
    tensors = torch.from_numpy(encoding.scale), torch.from_numpy(np.array(encoding.zero_point))
    found = functional.fake_quantize(torch.from_numpy(x), *tensors, grid.minimum, grid.maximum, axis=axis)
    np.testing.assert_array_equal(found.numpy(), expected)
    if symmetric:
        n, p = grid.minimum - grid.zero_point, grid.maximum - grid.zero_point
        np.testing.assert_array_equal(functional.lsq(torch.from_numpy(x), tensors[0], n, p, axis=axis), expected)
    else:
        offset = -tensors[1] * tensors[0]
        found = functional.lsq_plus(
            torch.from_numpy(x), tensors[0], offset, grid.minimum, grid.maximum, axis=axis, on_levels=True
        )
        np.testing.assert_array_equal(found.numpy(), expected)


def test_fixed_quantization_passes_gradients_where_nothing_is_clipped():
    x = torch.tensor([-10.0, -0.6, 0.2, 7.49, 7.51, 9.0], requires_grad=True)
    functional.fake_quantize(x, torch.tensor(1.0), 0, -8, 7).sum().backward()
    assert x.grad.tolist() == [0, 1, 1, 1, 0, 0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32_and_given_back(dtype):
    x = torch.randn(100, generator=torch.Generator().manual_seed(0)).to(dtype).requires_grad_()
    scale = torch.tensor(0.013, requires_grad=True)
    result = functional.lsq(x, scale, -128, 127)
    assert result.dtype == dtype
    expected = functional.lsq(x.detach().float(), scale.detach(), -128, 127).to(dtype)
    assert torch.equal(result, expected)
    result.sum().backward()
    assert x.grad.dtype == dtype and scale.grad.dtype == torch.float32


def test_a_scale_that_training_has_pushed_below_0_can_come_back():
    scale = torch.tensor(-0.1, requires_grad=True)
    functional.lsq(torch.tensor([3.0, -2.0, 1.0]), functional.positive(scale), -8, 7).backward(torch.ones(3))
    assert scale.grad.item() == 7 - 8 + 7


@pytest.mark.parametrize("step, sign", [(0.3, 1), (-0.3, -1), (0.0, 1)])
def test_a_step_beyond_0_counts_as_on_this_side_of_it(step, sign):
    learned = torch.tensor(step, requires_grad=True)
    scale = functional.magnitude(learned)
    assert scale.item() == pytest.approx(max(abs(step), SMALLEST_SCALE))
    scale.backward()
    assert learned.grad.item() == sign


def test_what_is_not_used_gets_zero_gradients():
    x, scale = torch.ones(3, requires_grad=True), torch.tensor(2.0, requires_grad=True)
    functional.linked(x, scale).sum().backward()
    assert x.grad.tolist() == [1, 1, 1] and scale.grad.item() == 0.0
