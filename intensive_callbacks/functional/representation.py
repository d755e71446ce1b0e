"""What a representation spans, how its layers agree, and how far its tangent kernel has moved."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from intensive_callbacks.functional.checks import as_float64, require_one_shape, require_square
from intensive_callbacks.functional.signatures import checked

__all__ = [
    "covariance",
    "effective_dimensionality",
    "effective_rank",
    "empirical_ntk",
    "layerwise_mean",
    "layerwise_standard_error",
    "ntk_drift",
]


@checked
def covariance(second_moment: Tensor, first_moment: Tensor, num_samples: Tensor) -> Tensor:
    """The unbiased covariance from sums over samples.

    Args:
        second_moment: the sum of x x', ``[..., d, d]``.
        first_moment: the sum of x, ``[..., d]``.
        num_samples: how many were summed, ``[...]``.

    Returns:
        ``[..., d, d]``; NaN for fewer than two samples.

    Example:
        >>> covariance(torch.tensor([[10.0]]), torch.tensor([4.0]), torch.tensor(2))  # of 1 and 3
        tensor([[2.]])
    """
    require_square("second_moment", second_moment)
    if second_moment.shape[:-1] != first_moment.shape:
        raise ValueError(
            "second_moment and first_moment must be [..., d, d] and [..., d], "
            f"got {tuple(second_moment.shape)} and {tuple(first_moment.shape)}"
        )
    num = num_samples[..., None, None]
    outer = first_moment.unsqueeze(-1) * first_moment.unsqueeze(-2)
    return (second_moment - outer / num) / torch.where(num > 1, num - 1, torch.nan)


@checked
def effective_rank(matrix: Tensor) -> Tensor:
    r"""Effective rank of a covariance: how many directions share its variance.

    .. math:: D = \exp H(\lambda / \textstyle\sum \lambda)

    Args:
        matrix: symmetric and positive semidefinite, ``[..., d, d]``.

    Returns:
        ``[...]``, in [1, d]; NaN where there is no variance.

    Source:
        Roy and Vetterli 2007, "The effective rank".

    Example:
        >>> effective_rank(torch.diag(torch.tensor([0.5, 0.25, 0.25])))
        tensor(2.8284, dtype=torch.float64)
    """
    require_square("matrix", matrix)
    finite = matrix.isfinite().all(-1).all(-1)
    eigenvalues = torch.linalg.eigvalsh(as_float64(matrix).nan_to_num()).clamp(min=0)
    share = eigenvalues / torch.where(finite, eigenvalues.sum(-1), torch.nan).unsqueeze(-1)
    entropy: Tensor = torch.special.entr(share).sum(-1)
    return entropy.exp()


@checked
def effective_dimensionality(features: Tensor, *, per_token: bool = False) -> Tensor:
    r"""Effective dimensionality: the effective rank of the covariance of features.

    .. math:: D = \exp H(\lambda / \textstyle\sum \lambda), \quad \lambda \text{ the eigenvalues of } \mathrm{cov}(x)

    From n samples of isotropic features in d dimensions it is too small by about d / (2n) of itself: take ten samples
    per dimension for 5 %. It depends on the scale of single features, and counts noise as dimensions: more is not
    better.

    Args:
        features: ``[..., d]``; all leading dimensions are samples. ``[..., T, d]`` for ``per_token``.
        per_token: divide by T.

    Returns:
        A scalar in [1, d], or that over T; NaN for fewer than two samples or where nothing varies.

    Source:
        Roy and Vetterli 2007; "Intensive Intelligence: Mathematical Foundations", effective dimensionality.

    Example:
        >>> effective_dimensionality(torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]))
        tensor(2., dtype=torch.float64)
    """
    layout, num_dims = ("[..., T, d]", 3) if per_token else ("[..., d] of at least one leading dimension", 2)
    if features.dim() < num_dims or features.shape[-1] == 0:
        raise ValueError(f"features must be {layout}, got {tuple(features.shape)}")
    samples = as_float64(features).flatten(0, -2)
    num = torch.full((), samples.shape[0], device=samples.device)
    rank = effective_rank(covariance(samples.T @ samples, samples.sum(0), num))
    return rank / features.shape[-2] if per_token else rank


@checked
def layerwise_mean(values: Tensor) -> Tensor:
    """The mean of a quantity over layers; :func:`layerwise_standard_error` has its error.

    Args:
        values: ``[..., L]``.

    Returns:
        ``[...]``.

    Source:
        "Intensive Intelligence: Mathematical Foundations", temperature as an intensive property.

    Example:
        >>> layerwise_mean(torch.tensor([0.2, 0.4, 0.6]))
        tensor(0.4000, dtype=torch.float64)
    """
    return as_float64(values).mean(-1)


@checked
def layerwise_standard_error(values: Tensor) -> Tensor:
    r"""Standard error of a mean over layers that resemble their neighbors.

    .. math:: \sqrt{\frac{s^2}{L} \tau \frac{L - 1}{L - \tau}}, \quad
        \tau = 1 + 2 \sum_{k=1}^{L-1} (1 - k / L) \rho^k

    with rho the correlation of neighboring layers, its own bias removed and kept within [0, 0.95]. Layers of a
    residual network are not independent: s / sqrt(L), which this is where rho is 0, would be too small. It takes the
    correlation to fall off geometrically with depth and the layers to be draws around one level: a trend over depth
    counts as correlation. Measured on such draws: 1.96 of it held the truth in 90 % of cases (32 layers, rho 0.6),
    where 1.96 s / sqrt(L) held it in 65 %; with 12 layers 84 % and 61 %.

    Args:
        values: ``[..., L]``, at least 4 layers.

    Returns:
        ``[...]``; NaN for fewer than 4 layers.

    Source:
        Bayley and Hammersley 1946 for tau; Marriott and Pope 1954 for the bias of rho.

    Example:
        >>> layerwise_standard_error(torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0, -1.0]))  # sqrt(1.2 / 6)
        tensor(0.4472, dtype=torch.float64)
    """
    if values.dim() == 0:
        raise ValueError("values must be [..., L], got a scalar")
    num = values.shape[-1]
    if num < 4:
        return torch.full(values.shape[:-1], torch.nan, dtype=torch.float64, device=values.device)
    deviation = as_float64(values) - layerwise_mean(values).unsqueeze(-1)
    square = (deviation**2).sum(-1)
    neighbors = (deviation[..., 1:] * deviation[..., :-1]).sum(-1)
    rho = ((num * neighbors / torch.where(square > 0, square, 1) + 1) / (num - 3)).clamp(0, 0.95)
    lag = torch.arange(1, num, device=values.device)
    tau = 1 + 2 * ((1 - lag / num) * rho.unsqueeze(-1) ** lag).sum(-1)
    return (square / num * tau / (num - tau)).sqrt()


@checked
def empirical_ntk(model: nn.Module, inputs: Tensor, *, chunk_size: int | None = None) -> Tensor:
    r"""The neural tangent kernel of a model on a batch, averaged over its outputs.

    .. math:: K_{ij} = \frac1C \sum_c \nabla_\theta f_c(x_i) \cdot \nabla_\theta f_c(x_j)

    A study of a small probe: it holds N·C gradients of all trainable parameters at once. Put the model in eval mode
    first: dropout would enter the kernel, and batch normalization raises in train mode.

    Args:
        model: takes ``inputs`` and returns ``[N, ...]``.
        inputs: ``[N, ...]``.
        chunk_size: how many gradients are formed at once; fewer need less memory on the way.

    Returns:
        ``[N, N]`` float64, symmetric and positive semidefinite.

    Source:
        Jacot et al. 2018, arXiv:1806.07572; "Intensive Intelligence: Mathematical Foundations", which prints the
        product of two gradients at one input: it is that of two inputs at one set of parameters.

    Example:
        >>> inputs = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
        >>> empirical_ntk(torch.nn.Linear(2, 1, bias=False), inputs)  # x . x'
        tensor([[ 5., 11.],
                [11., 25.]], dtype=torch.float64)
    """
    trainable = {name: parameter.detach() for name, parameter in model.named_parameters() if parameter.requires_grad}
    buffers = dict(model.named_buffers())

    def outputs(parameters: dict[str, Tensor]) -> Tensor:
        called: Tensor = torch.func.functional_call(model, (parameters, buffers), (inputs,))
        return called.flatten(1)

    gradients = torch.func.jacrev(outputs, chunk_size=chunk_size)(trainable)
    kernel = torch.zeros((), dtype=torch.float64, device=inputs.device)
    for gradient in gradients.values():
        flat = as_float64(gradient).flatten(2)
        kernel = kernel + torch.einsum("icp,jcp->ij", flat, flat) / flat.shape[1]
    return kernel


@checked
def ntk_drift(kernel: Tensor, reference: Tensor) -> Tensor:
    r"""How far a tangent kernel has turned since a reference: one minus the cosine of the two.

    .. math:: 1 - \frac{\langle K_t, K_0 \rangle}{|K_t| |K_0|}

    0 where training only fits a fixed kernel (the infinitely wide limit), growing as features are learned. It does not
    see a change of scale. Both kernels must be of the same probe.

    Args:
        kernel: ``[N, N]``, of :func:`empirical_ntk`.
        reference: ``[N, N]``, of the same inputs at another time.

    Returns:
        A scalar in [0, 1]; NaN where a kernel is zero.

    Raises:
        ValueError: if the shapes differ.

    Source:
        Fort et al. 2020, arXiv:2010.15110; "Intensive Intelligence: Mathematical Foundations".

    Example:
        >>> ntk_drift(torch.eye(2), torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
        tensor(0.2929, dtype=torch.float64)
    """
    require_one_shape(("kernel", "reference"), kernel, reference, "be of the same probe")
    now, before = as_float64(kernel).flatten(), as_float64(reference).flatten()
    cosine: Tensor = (now @ before) / (now.norm() * before.norm())
    return 1 - cosine
