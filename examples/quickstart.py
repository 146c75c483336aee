"""Handwritten digits with plain NumPy functions: a multinomial logistic regression and a small network.

    python examples/quickstart.py

The data ships with scikit-learn (`pip install "jitgrad[examples]"`). HIPS autograd and PyTorch are timed beside
jitgrad where they are installed.
"""

from __future__ import annotations

import importlib.util
import time

import numpy as np
from sklearn.datasets import load_digits

import jitgrad


def log_softmax(scores):
    """Rows of log probabilities."""
    shifted = scores - np.max(scores, axis=1, keepdims=True)
    return shifted - np.log(np.sum(np.exp(shifted), axis=1, keepdims=True))


def logistic_loss(weights, images, targets):
    """Mean cross-entropy of a linear model, with a small penalty on the weights."""
    return -np.mean(np.sum(targets * log_softmax(images @ weights), axis=1)) + 1e-3 * np.sum(weights**2)


def scores_of(params, images):
    """A network with one hidden layer."""
    hidden = np.tanh(images @ params["w1"] + params["b1"])
    return hidden @ params["w2"] + params["b2"]


def network_loss(params, images, targets):
    return -np.mean(np.sum(targets * log_softmax(scores_of(params, images)), axis=1))


def digits():
    """Images as rows of 64 numbers in [0, 1] and a one, one-hot targets; the last 400 are held back."""
    data = load_digits()
    images = np.hstack([data.data / 16.0, np.ones((len(data.data), 1))])
    targets = np.eye(10)[data.target]
    return images[:-400], targets[:-400], images[-400:], data.target[-400:]


def fit_logistic(images, targets):
    step = jitgrad.value_and_grad(logistic_loss)
    weights = np.zeros((65, 10))
    for _ in range(400):
        loss, gradient = step(weights, images, targets)
        weights -= 1.5 * gradient
    return weights, loss


def fit_network(images, targets, hidden=32):
    rng = np.random.default_rng(0)
    params = {
        "w1": rng.normal(0, 0.2, (65, hidden)),
        "b1": np.zeros(hidden),
        "w2": rng.normal(0, 0.2, (hidden, 10)),
        "b2": np.zeros(10),
    }
    step = jitgrad.value_and_grad(network_loss)
    for _ in range(30):
        order = rng.permutation(len(images))
        for start in range(0, len(order) - 63, 64):
            batch = order[start : start + 64]
            loss, gradient = step(params, images[batch], targets[batch])
            for name in params:
                params[name] -= 0.5 * gradient[name]
    return params, loss


def accuracy(scores, labels):
    return np.mean(np.argmax(scores, axis=1) == labels)


def second_derivative():
    """d^2/dx^2 of x^3 sin x, compiled, beside its closed form."""
    curvature = jitgrad.grad(jitgrad.grad(lambda x: x**3 * np.sin(x)))
    x = 1.3
    return curvature(x), 6 * x * np.sin(x) + 6 * x**2 * np.cos(x) - x**3 * np.sin(x)


def times(weights, images, targets):
    """Microseconds per gradient of the logistic loss: jitgrad and whichever peers are installed."""
    found = {"jitgrad": microseconds(jitgrad.grad(logistic_loss), weights, images, targets)}
    if importlib.util.find_spec("autograd"):
        found["HIPS autograd"] = microseconds(*autograd_gradient(weights, images, targets))
    if importlib.util.find_spec("torch"):
        found["PyTorch eager, one thread"] = microseconds(*torch_gradient(weights, images, targets))
    return found


def microseconds(function, *args):
    for _ in range(5):
        function(*args)
    samples = []
    for _ in range(30):
        start = time.perf_counter()
        function(*args)
        samples.append(time.perf_counter() - start)
    return 1e6 * min(samples)


def autograd_gradient(weights, images, targets):
    import autograd
    import autograd.numpy as anp

    def loss(weights, images, targets):
        scores = anp.dot(images, weights)
        shifted = scores - anp.max(scores, axis=1, keepdims=True)
        logs = shifted - anp.log(anp.sum(anp.exp(shifted), axis=1, keepdims=True))
        return -anp.mean(anp.sum(targets * logs, axis=1)) + 1e-3 * anp.sum(weights**2)

    return autograd.grad(loss), weights, images, targets


def torch_gradient(weights, images, targets):
    import torch

    torch.set_num_threads(1)  # on a busy machine its threads wait for one another
    w, x, y = torch.tensor(weights, requires_grad=True), torch.tensor(images), torch.tensor(targets)

    def gradient():
        loss = -(y * torch.log_softmax(x @ w, dim=1)).sum(dim=1).mean() + 1e-3 * (w**2).sum()
        return torch.autograd.grad(loss, w)[0]

    return (gradient,)


def main():
    images, targets, test_images, test_labels = digits()

    weights, loss = fit_logistic(images, targets)
    right = accuracy(test_images @ weights, test_labels)
    print(f"logistic regression: loss {loss:.4f}, accuracy on 400 unseen digits {right:.3f}")

    params, loss = fit_network(images, targets)
    right = accuracy(scores_of(params, test_images), test_labels)
    print(f"network 65-32-10:    loss {loss:.4f}, accuracy on 400 unseen digits {right:.3f}")

    ours, exact = second_derivative()
    print(f"\nsecond derivative of x^3 sin x at 1.3: {ours:.15f}\n                        closed form: {exact:.15f}")

    print("\nthe adjoint of x -> sum(x sin x), as jitgrad runs it:\n")
    print(jitgrad.show(jitgrad.grad(lambda x: np.sum(x * np.sin(x))), np.ones(3)))

    print("gradient of the logistic loss, 1397 images (microseconds, best of 30):")
    for name, value in times(weights, images, targets).items():
        print(f"  {name:26s} {value:9.1f}")


if __name__ == "__main__":
    main()
