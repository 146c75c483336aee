"""Short programs as scientists write them: what test_programs.py runs in every way there is.

Each takes floats, arrays and nests of them, all of which are differentiated, and returns a real scalar. `np` is NumPy,
`jnp` is jitgrad.numpy, used only for what NumPy's protocols cannot route: arrays made of traced numbers.
"""

from __future__ import annotations

import functools
from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

import jitgrad.numpy as jnp


class Program(NamedTuple):
    """A scalar function and what makes its arguments from a random generator."""

    function: Callable
    arguments: Callable[[np.random.Generator], tuple]


PROGRAMS: dict[str, Program] = {}


def program(arguments: Callable[[np.random.Generator], tuple]):
    """Enters the function below into the catalogue."""

    def enter(function: Callable) -> Callable:
        PROGRAMS[function.__name__] = Program(function, arguments)
        return function

    return enter


def normal(*shape: int):
    return lambda rng: (rng.standard_normal(shape),)


def positive(*shape: int):
    return lambda rng: (rng.uniform(0.5, 2.0, shape),)


# --- physics


@program(lambda rng: (rng.standard_normal((7, 3)) * 2,))
def lennard_jones(positions):
    i, j = np.triu_indices(len(positions), 1)
    squared = np.sum((positions[i] - positions[j]) ** 2, axis=-1)
    inverse = 1.0 / squared**3
    return np.sum(4.0 * (inverse**2 - inverse)) * 1e-3


@program(lambda rng: (rng.standard_normal((5, 3)), rng.uniform(0.5, 1.5, 5)))
def coulomb_all_pairs(positions, charges):
    difference = positions[:, None, :] - positions[None, :, :]
    distance = np.sqrt(np.sum(difference**2, axis=-1) + np.eye(5))
    interaction = charges[:, None] * charges[None, :] / distance
    return 0.5 * np.sum(np.where(np.eye(5, dtype=bool), 0.0, interaction))


@program(lambda rng: (rng.standard_normal(2), rng.standard_normal(2), 9.81))
def double_pendulum_energy(angles, speeds, gravity):
    first, second = angles
    kinetic = speeds[0] ** 2 + 0.5 * speeds[1] ** 2 + speeds[0] * speeds[1] * np.cos(first - second)
    return kinetic - gravity * (2 * np.cos(first) + np.cos(second))


@program(normal(24))
def ising_mean_field(m):
    field = np.roll(m, 1) + np.roll(m, -1)
    entropy = np.log(2 * np.cosh(field * 0.3))
    return -0.5 * m @ field - entropy.sum()


@program(lambda rng: (rng.standard_normal(20), 0.1))
def heat_equation_steps(u, diffusivity):
    for _ in range(6):
        laplacian = u[2:] - 2 * u[1:-1] + u[:-2]
        u = np.concatenate([u[:1], u[1:-1] + diffusivity * laplacian, u[-1:]])
    return np.mean(u**2)


@program(normal(8, 9))
def stencil_five_points(u):
    inner = u[1:-1, 2:] + u[1:-1, :-2] + u[2:, 1:-1] + u[:-2, 1:-1] - 4.0 * u[1:-1, 1:-1]
    return 0.5 * np.sum(inner**2) + np.sum(np.tanh(u[::2, ::-3]))


@program(lambda rng: (0.3, 0.8, np.array([0.5, 1.0, 2.0])))
def robot_arm(shoulder, elbow, target):
    hand = jnp.array([np.cos(shoulder) + np.cos(shoulder + elbow), np.sin(shoulder) + np.sin(shoulder + elbow), 0.0])
    return np.linalg.norm(hand - target)


@program(lambda rng: (rng.standard_normal(3), rng.standard_normal((4, 3))))
def rotation_by_axis(omega, points):
    angle = np.sqrt(np.sum(omega**2))
    axis = omega / angle
    cross = np.cross(axis, points)
    turned = points * np.cos(angle) + cross * np.sin(angle) + np.outer(points @ axis, axis) * (1 - np.cos(angle))
    return np.sum(turned * np.arange(1.0, 13.0).reshape(4, 3))


@program(lambda rng: (np.array([1.0, 0.1, -0.2, 0.3]), rng.standard_normal((3, 5))))
def quaternion_matrix(q, points):
    w, x, y, z = q / np.linalg.norm(q)
    matrix = jnp.array([
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ])
    return np.sum(np.sin(matrix @ points))


@program(lambda rng: (1.2, 0.4))
def runge_kutta_van_der_pol(mu, start):
    def slope(state):
        x, v = state
        return v, mu * (1 - x**2) * v - x

    state, step = (start, 1.0), 0.05
    for _ in range(12):
        k1 = slope(state)
        k2 = slope(tuple(s + 0.5 * step * k for s, k in zip(state, k1, strict=True)))
        k3 = slope(tuple(s + 0.5 * step * k for s, k in zip(state, k2, strict=True)))
        k4 = slope(tuple(s + step * k for s, k in zip(state, k3, strict=True)))
        slopes = zip(state, k1, k2, k3, k4, strict=True)
        state = tuple(s + step / 6 * (a + 2 * b + 2 * c + d) for s, a, b, c, d in slopes)
    return state[0] * state[1]


@program(lambda rng: (rng.standard_normal((6, 2)), rng.standard_normal((6, 2))))
def leapfrog_gravity(x, v):
    def force(x):
        d = x[None] - x[:, None]
        return np.einsum("ijk,ij->ik", d, (np.sum(d * d, -1) + 0.1) ** -1.5)

    for _ in range(3):
        v = v + 0.005 * force(x)
        x = x + 0.01 * v
        v = v + 0.005 * force(x)
    return 0.5 * (v * v).sum()


@program(positive(5))
def black_body(temperatures):
    wavelength = np.linspace(0.5, 3.0, 40)[:, None]
    spectrum = wavelength**-5 / np.expm1(1 / (wavelength * temperatures))
    return np.trapezoid(np.trapezoid(spectrum, dx=0.1, axis=0))


# --- statistics


@program(lambda rng: (rng.standard_normal(4), 0.3, rng.standard_normal((30, 4))))
def logistic_regression(weights, bias, x):
    labels = np.arange(30) % 2
    margin = (2 * labels - 1) * (x @ weights + bias)
    return np.mean(np.logaddexp(0.0, -margin)) + 0.01 * weights @ weights


@program(lambda rng: (rng.standard_normal(3) * 0.3, rng.standard_normal((25, 3))))
def poisson_regression(weights, x):
    counts = np.arange(25) % 4
    linear = x @ weights
    return np.sum(np.exp(linear) - counts * linear)


@program(lambda rng: tuple(rng.standard_normal(shape) for shape in (3, (3, 2), (3, 2), (20, 2))))
def gaussian_mixture(weights, means, log_scales, data):
    log_weights = weights - np.log(np.sum(np.exp(weights)))
    z = (data[:, None, :] - means) / np.exp(log_scales)
    density = log_weights - 0.5 * np.sum(z**2, axis=-1) - log_scales.sum(-1) - np.log(2 * np.pi)
    peak = density.max(axis=1, keepdims=True)
    return -np.sum(np.log(np.sum(np.exp(density - peak), axis=1)) + peak[:, 0])


@program(lambda rng: (rng.standard_normal((3, 3)), rng.standard_normal((10, 3))))
def gaussian_with_factor(factor, data):
    lower = np.tril(factor, -1) + np.diag(np.exp(np.diag(factor)))
    projected = data @ lower
    return 0.5 * np.sum(projected**2) - 10 * np.trace(factor)


@program(lambda rng: (0.2, -0.5, 2.0, rng.standard_normal(30)))
def student_t(location, log_scale, degrees, data):
    z = (data - location) / np.exp(log_scale)
    return np.sum(0.5 * (degrees + 1) * np.log1p(z**2 / degrees)) + data.size * log_scale


@program(lambda rng: (np.array([0.05, 0.1, 0.85]), rng.standard_normal(25)))
def garch_unrolled(parameters, returns):
    omega, alpha, beta = parameters
    variance, total = 1.0, 0.0
    for r in returns:
        variance = omega + alpha * r**2 + beta * variance
        total = total + np.log(variance) + r**2 / variance
    return 0.5 * total


@program(lambda rng: (rng.standard_normal(2), rng.standard_normal((2, 2)), rng.standard_normal((2, 2)) * 0.3))
def kalman_predict(mean, root, transition):
    covariance = root @ root.T + np.eye(2)
    mean, covariance = transition @ mean, transition @ covariance @ transition.T + 0.1 * np.eye(2)
    gain = covariance[:, 0] / (covariance[0, 0] + 0.5)
    innovation = 1.0 - mean[0]
    mean = mean + gain * innovation
    covariance = covariance - np.outer(gain, covariance[0])
    return mean @ mean + np.trace(covariance)


@program(normal(4, 6))
def correlation_penalty(x):
    return np.sum(np.corrcoef(x) ** 2) + np.sum(np.abs(np.cov(x)))


@program(normal(31))
def robust_location(x):
    centred = x - np.median(x)
    scale = np.median(np.abs(centred)) + 0.1
    z = centred / scale
    return np.sum(np.where(np.abs(z) < 1.345, 0.5 * z**2, 1.345 * (np.abs(z) - 0.6725)))


@program(normal(15))
def trimmed_gini(x):
    ordered = np.sort(x)[2:-2]
    weights = 2 * np.arange(1, ordered.size + 1) - ordered.size - 1
    return np.dot(weights, ordered) / ordered.size + np.ptp(x)


@program(lambda rng: (rng.standard_normal(20), rng.standard_normal(20)))
def wasserstein(x, y):
    return np.mean(np.abs(np.sort(x) - np.sort(y)) ** 1.5)


@program(lambda rng: (rng.standard_normal(10),))
def cox_partial_likelihood(risk):
    order = np.argsort(np.arange(10) * 7 % 10)
    event = np.arange(10) % 3 > 0
    ranked = risk[order]
    at_risk = np.log(np.cumsum(np.exp(ranked)[::-1])[::-1])
    return -np.sum((ranked - at_risk)[event])


@program(lambda rng: (rng.uniform(0.1, 0.9, 8),))
def stick_breaking(fractions):
    remaining = np.concatenate([np.ones(1), np.cumprod(1 - fractions)])
    weights = np.append(fractions, 1.0) * remaining
    return -np.sum(weights * np.log(weights))


@program(lambda rng: (rng.standard_normal(50),))
def histogram_kernel_density(x):
    grid = np.linspace(-3, 3, 13)
    density = np.exp(-0.5 * ((grid[:, None] - x) / 0.3) ** 2).mean(axis=1) / (0.3 * np.sqrt(2 * np.pi))
    return -np.sum(np.log(density + 1e-3))


@program(lambda rng: (rng.uniform(0.2, 2.0, (2, 5)),))
def divergence_of_histograms(counts):
    p, q = counts / counts.sum(axis=1, keepdims=True)
    middle = 0.5 * (p + q)
    return 0.5 * np.sum(p * np.log(p / middle)) + 0.5 * np.sum(q * np.log(q / middle))


@program(lambda rng: (rng.standard_normal((4, 3)),))
def hidden_markov_forward(logits):
    start = np.full(3, 1 / 3)
    change = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.1, 0.3, 0.6]])
    forward, evidence = start, 0.0
    for row in logits:
        forward = (forward @ change) * np.exp(row)
        total = forward.sum()
        forward, evidence = forward / total, evidence + np.log(total)
    return evidence


# --- machine learning


@program(lambda rng: (rng.standard_normal((6, 4)), rng.standard_normal((6, 4)), rng.standard_normal((6, 3))))
def attention(query, key, value):
    scores = query @ key.T / np.sqrt(query.shape[-1])
    scores = np.where(np.tri(6, dtype=bool), scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    return np.sum((weights @ value) ** 2)


@program(lambda rng: (rng.standard_normal((5, 4)), rng.standard_normal(4), rng.standard_normal(4)))
def layer_norm(x, scale, shift):
    mean = np.mean(x, axis=-1, keepdims=True)
    variance = np.var(x, axis=-1, keepdims=True)
    return np.sum(np.sin((x - mean) / np.sqrt(variance + 1e-5) * scale + shift))


@program(lambda rng: (rng.standard_normal((8, 5)),))
def cross_entropy(logits):
    labels = np.arange(8) % 5
    shifted = logits - logits.max(1, keepdims=True)
    logarithms = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return -logarithms[np.arange(8), labels].mean()


@program(lambda rng: ({"layers": [(rng.standard_normal((3, 8)), np.zeros(8)), (rng.standard_normal((8, 1)), np.ones(1))]},))
def multilayer_perceptron(parameters):
    x = np.linspace(-1, 1, 12).reshape(4, 3)
    for weights, bias in parameters["layers"]:
        x = np.tanh(x @ weights + bias)
    return np.mean((x[:, 0] - np.array([0.1, -0.2, 0.3, 0.0])) ** 2)


@program(lambda rng: (rng.standard_normal((10, 4)), rng.standard_normal(4)))
def embedding_bag(table, readout):
    words = np.array([[1, 2, 1], [0, 9, -1], [3, 3, 3]])
    return np.sum(np.maximum(table[words].mean(axis=1), 0) @ readout)


@program(lambda rng: (rng.standard_normal((6, 7)), rng.standard_normal((3, 2))))
def convolution_by_slices(image, kernel):
    rows, columns = image.shape[0] - 2, image.shape[1] - 1
    result = 0.0
    for i in range(3):
        for j in range(2):
            result = result + kernel[i, j] * image[i : i + rows, j : j + columns]
    return np.sum(np.maximum(result, 0.1 * result))


@program(normal(4, 6, 2))
def max_pooling(x):
    return np.sum(x.reshape(2, 2, 3, 2, 2).max(axis=(1, 3)) ** 3)


@program(lambda rng: (rng.standard_normal((4, 3)), rng.standard_normal((5, 3)), 0.7))
def kernel_mean_discrepancy(x, y, width):
    def kernel(a, b):
        squared = np.sum(a * a, 1)[:, None] + np.sum(b * b, 1) - 2 * a @ b.T
        return np.exp(-0.5 * squared / width**2).mean()

    return kernel(x, x) + kernel(y, y) - 2 * kernel(x, y)


@program(lambda rng: (rng.standard_normal((12, 3)), rng.standard_normal(3)))
def ridge_and_lasso(x, w):
    residual = np.dot(x, w) - np.sin(np.arange(12))
    return residual.dot(residual) / 24 + 0.1 * np.sum(w**2) + 0.05 * np.abs(w).sum()


@program(lambda rng: (rng.standard_normal((5, 2)), rng.standard_normal((4, 2))))
def matrix_factorization(users, items):
    observed = np.arange(20).reshape(5, 4) % 3 != 0
    error = users @ items.T - np.arange(20.0).reshape(5, 4) / 10
    return np.sum(error[observed] ** 2) + 0.1 * (np.sum(users**2) + np.sum(items**2))


@program(lambda rng: (rng.standard_normal((3, 4)), rng.standard_normal((4, 4)), rng.standard_normal(4)))
def recurrent_cell(inputs, weights, bias):
    state = np.zeros(4)
    for x in inputs:
        gate = 1 / (1 + np.exp(-(weights @ state + bias)))
        state = gate * state + (1 - gate) * np.tanh(x)
    return state.sum()


@program(lambda rng: (rng.standard_normal((4, 3)),))
def triplet_loss(points):
    anchor, close, far, _ = points
    return np.maximum(0, 1 + np.linalg.norm(anchor - close) - np.linalg.norm(anchor - far) + 5)


@program(lambda rng: (rng.standard_normal((2, 3, 4)), rng.standard_normal((2, 4, 5))))
def batched_products(a, b):
    return np.sum(np.matmul(a, b) ** 2) + np.einsum("bij,bjk,bki->", a, b, np.ones((2, 5, 3)))


# --- numerical analysis


@program(lambda rng: (rng.standard_normal(5), rng.standard_normal(7)))
def polynomial(coefficients, x):
    horner = 0.0
    for c in coefficients:
        horner = horner * x + c
    return np.sum(horner) + np.polyval(coefficients, 0.3) + (x[:, None] ** np.arange(5) @ coefficients).sum()


@program(lambda rng: (rng.standard_normal(6), rng.uniform(0.1, 4.9, 9)))
def linear_spline(knots, x):
    left = np.floor(x).astype(int)
    t = x - left
    return np.sum(((1 - t) * knots[left] + t * knots[left + 1]) ** 2) + np.interp(2.5, np.arange(6.0), knots)


@program(lambda rng: (rng.standard_normal((3, 4, 5)), rng.standard_normal((5, 4))))
def tensor_contractions(a, b):
    return np.sum(np.tensordot(a, b, axes=([2, 1], [0, 1])) ** 2) + np.einsum("ijk,kj->i", a, b).prod() * 1e-3


@program(lambda rng: (rng.standard_normal((4, 4)),))
def norms(a):
    columns = np.linalg.norm(a, axis=0)
    return np.linalg.norm(a) + columns.max() + np.linalg.norm(a[0], 1) + np.linalg.norm(a, np.inf)


@program(lambda rng: (rng.standard_normal((4, 4)) * 0.2,))
def neumann_series(a):
    total = term = np.eye(4)
    for _ in range(6):
        term = term @ a
        total = total + term
    return np.trace(total)


@program(positive(6))
def newton_square_roots(x):
    root = x
    for _ in range(5):
        root = 0.5 * (root + x / root)
    return np.sum(root)


@program(normal(16))
def simpson(y):
    return (y[0:-2:2] + 4 * y[1:-1:2] + y[2::2]).sum() / 3 + np.diff(y, 2) @ np.gradient(y)[1:-1]


@program(lambda rng: (rng.standard_normal(8), rng.standard_normal(3)))
def signal_filter(signal, taps):
    return np.sum(np.convolve(signal, taps, mode="same") ** 2) + np.correlate(signal, taps).max()


@program(normal(3, 5))
def reshaping_and_padding(x):
    padded = np.pad(x.T, ((1, 0), (0, 2)), mode="reflect")
    tiles = np.tile(padded, (2, 1)).reshape(-1, 5)
    return np.sum(np.cumsum(tiles, axis=0)[::3] * np.flip(tiles, 1)[::3])


@program(lambda rng: (rng.standard_normal((3, 3)),))
def pieces_of_a_matrix(a):
    upper, lower = np.triu(a), np.tril(a)
    block = np.block([[upper, np.eye(3)], [np.zeros((3, 3)), lower]])
    return np.sum(np.kron(block[:2, :2], a) ** 2) + np.einsum("ii", block) + np.vstack([a, a.T])[::2].sum()


@program(lambda rng: (rng.standard_normal((4, 5)), rng.standard_normal((4, 5))))
def selections(x, y):
    chosen = np.select([x > 1, x > 0], [x**2, np.sin(y)], default=x * y)
    clipped = np.clip(x, -0.5, y + 1)
    return np.sum(chosen) + np.sum(clipped**2) + np.take(x, [0, 3, 3], axis=1).sum() + y.max(0) @ np.arange(5)


@program(lambda rng: (0.7, 1.3))
def long_chain(x, y):
    for _ in range(60):
        x, y = x + 1e-2 * np.sin(y), y - 1e-2 * np.cos(x)
    return x * y


# --- containers, closures, methods


@dataclass
class Oscillator:
    """Parameters in a dataclass with a method."""

    mass: float
    springs: np.ndarray

    def energy(self, x):
        return 0.5 * self.mass * np.sum(self.springs * x**2)


@program(lambda rng: (Oscillator(2.0, rng.uniform(1, 2, 3)), rng.standard_normal(3)))
def dataclass_argument(oscillator, x):
    return oscillator.energy(x) + oscillator.mass**2


Ellipse = namedtuple("Ellipse", ["centre", "axes"])


@program(lambda rng: (Ellipse(rng.standard_normal(2), (1.0, 2.0)), rng.standard_normal((6, 2))))
def namedtuple_argument(ellipse, points):
    scaled = (points - ellipse.centre) / jnp.array(ellipse.axes)
    return np.sum((np.sum(scaled**2, axis=1) - 1) ** 2)


@program(lambda rng: ({"a": {"b": [1.0, rng.standard_normal(2)], "c": None}, "d": (rng.standard_normal((2, 2)),)},))
def nested_containers(p):
    return p["a"]["b"][0] * np.sum(p["a"]["b"][1]) + np.sum(p["d"][0] ** 3)


class Network:
    """State on the object: `self.hidden` is read when called."""

    def __init__(self, width: int):
        self.hidden = np.linspace(-1, 1, 3 * width).reshape(3, width)

    def layer(self, x):
        return np.tanh(x @ self.hidden)

    def __call__(self, x, out):
        return np.sum(self.layer(x) @ out)


@program(lambda rng: (rng.standard_normal((2, 3)), rng.standard_normal(4)))
def object_with_state(x, out):
    return Network(4)(x, out)


def scaled_by(factor: float):
    """A decorator with an argument."""

    def decorate(function):
        @functools.wraps(function)
        def scaled(*args, **kwargs):
            return factor * function(*args, **kwargs)

        return scaled

    return decorate


@program(lambda rng: (rng.standard_normal(4), 0.5))
@scaled_by(3.0)
def decorated(x, power):
    return np.sum(np.abs(x) ** (2 + power))


@program(lambda rng: (rng.standard_normal(4),))
def partial_and_closure(x):
    offset = np.arange(4.0)

    def distance(a, b, exponent=2):
        return np.sum((a - b + offset) ** exponent)

    quartic = functools.partial(distance, exponent=4)
    return functools.reduce(lambda total, f: total + f(x, 1.0), [distance, quartic, lambda a, b: (a * b).sum()], 0.0)


# --- single precision, and integers among the floats


@program(lambda rng: (rng.standard_normal((4, 3)).astype(np.float32), np.float32(0.3)))
def single_precision(x, scale):
    return np.sum(np.exp(-(x**2) * scale)) + np.mean(np.sqrt(np.abs(x) + 1))


@program(lambda rng: (rng.standard_normal(5).astype(np.float32), rng.standard_normal(5)))
def mixed_precision(x, y):
    return np.sum(x * y) + np.sum(x.astype(np.float64) ** 2)


@program(lambda rng: (rng.uniform(0.5, 1.5, 4),))
def integer_data(rates):
    counts, exposure = np.array([3, 0, 2, 7]), np.arange(1, 5, dtype=np.int32)
    return np.sum(rates * exposure - counts * np.log(rates * exposure)) + 2 ** rates[0] + 7 // 2
