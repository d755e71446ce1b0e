"""Pairs of samples whose mutual information is known, for the tests and the benchmark of its estimators."""

import math

import torch


def normals(num_samples, num_dims, correlation, seed=0):
    """Each coordinate of y is correlated with its own of x; -d log2(1 - rho²) / 2 bits."""
    x, noise = torch.randn(2, num_samples, num_dims, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x, correlation * x + math.sqrt(1 - correlation**2) * noise


def bits_of_normals(num_dims, correlation):
    return -0.5 * num_dims * math.log2(1 - correlation**2)


def correlation_for(bits, num_dims):
    return math.sqrt(1 - 2 ** (-2 * bits / num_dims))


def rotated(x, y, seed=1):
    """The same information, with every coordinate dependent on every other: a dense covariance."""
    generator = torch.Generator().manual_seed(seed)
    mixes = torch.randn(2, x.shape[1], x.shape[1], generator=generator, dtype=torch.float64)
    return x @ mixes[0], y @ mixes[1]


def warped(x, y):
    """The same information behind increasing maps of each coordinate."""
    return x.exp(), y**3


def student(num_samples, correlation, degrees, seed=0):
    """Bivariate Student-t: the normals' information and what the common scale adds."""
    x, y = normals(num_samples, 1, correlation, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    chi = torch.randn(num_samples, degrees, generator=generator, dtype=torch.float64).square().sum(1, keepdim=True)
    scale = (chi / degrees).rsqrt()
    return x * scale, y * scale


def bits_of_student(correlation, degrees):
    """Of the bivariate Student-t: the entropies of both margins less the joint one."""
    half = degrees / 2
    digamma = torch.special.digamma(torch.tensor([half, half + 0.5, half + 1], dtype=torch.float64)).tolist()
    log_beta = math.lgamma(half) + math.lgamma(0.5) - math.lgamma(half + 0.5)
    margin = (half + 0.5) * (digamma[1] - digamma[0]) + math.log(degrees) / 2 + log_beta
    joint = (half + 1) * (digamma[2] - digamma[0]) + math.log(2 * math.pi) + math.log(1 - correlation**2) / 2
    return (2 * margin - joint) / math.log(2)


def folded(num_samples, noise=0.1, seed=0):
    """y is abs(x) with uniform noise: H(y) less the noise's, by integration of a density."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(num_samples, 1, generator=generator, dtype=torch.float64) * 2 - 1
    return x, x.abs() + noise * torch.rand(num_samples, 1, generator=generator, dtype=torch.float64)


def bits_of_folded(noise=0.1):
    """abs(x) is uniform on [0, 1]; with noise on [0, w], w <= 1, the entropy of the trapezoid is w / 2 nats."""
    return (noise / 2 - math.log(noise)) / math.log(2)
