"""Information for the size of a model, as a metric: ``functional/compression.py`` has the mathematics."""

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from intensive_callbacks.boundary import warn
from intensive_callbacks.functional import compression, gaussian, neighbors, predictions
from intensive_callbacks.metrics.base import SampleMetric, companion

__all__ = ["EffectiveCompressionRatio"]

_OF_SAMPLES = {
    "gaussian_copula": gaussian.gaussian_copula_information,
    "gaussian": gaussian.gaussian_information,
    "ksg": neighbors.ksg_information,
    "seed": neighbors.seed_information,
}


class EffectiveCompressionRatio(SampleMetric):
    r"""Effective compression ratio (ECR): the information from input to output, per binary order of magnitude of size.

    .. math:: ECR = I(X; Y) / \log_2 N

    The estimator of the numerator is chosen by name, because none is right for every output:

    - ``"predictive"``, for a classifier: ``outputs`` are logits ``[..., K]``, ``inputs`` are not looked at. Exact, and
      streamed: sums, no buffer. Give ``labels`` too and ``usable_information`` stands beside it.
    - ``"usable"``, for a classifier with ``labels``, ``[...]`` integers, negative where ignored: below 0 when wrong.
    - ``"gaussian_copula"``, for continuous outputs: dependence that is monotone in each coordinate.
    - ``"gaussian"``: linear dependence. ``"ksg"``: any, in at most three dimensions a side.
    - ``"seed"``: the proxy of the metric's source, for the sake of published values.

    The last four keep ``num_samples`` rows of ``inputs`` and ``outputs``, flattened to ``num_features`` columns. A
    network without noise carries infinite information about a continuous input, so they have to be told with how much
    ``noise`` its outputs are read. ``compute`` returns a scalar, NaN before the first output or where the estimator
    fails; ``information`` the numerator. Values that are not finite are left out by rows and counted in
    ``num_dropped``.

    Args:
        num_params: N, every parameter once.
        estimator: the name of the numerator.
        num_classes: the most classes that logits may have; 16 bytes each.
        num_features: columns of the inputs and of the outputs, for the estimators that keep samples.
        num_samples: rows kept by them; 4 bytes a number.
        noise: standard deviation of the normal noise added to the outputs, in units of their own; 0 for outputs that
            are random already.
        kwargs: those of ``torchmetrics.Metric``.

    Raises:
        ValueError: if ``num_params`` is negative, the estimator has no such name, or one that keeps samples lacks
            ``num_features``; on update, if the shapes do not fit, the logits have more than ``num_classes`` classes, or
            ``"usable"`` lacks labels; on compute, if a label lay outside the classes.

    Source:
        "Intensive Intelligence: Measurement Frameworks", metric 7.

    Example:
        >>> from intensive_callbacks import EffectiveCompressionRatio
        >>> ecr = EffectiveCompressionRatio(num_params=2**20)
        >>> logits = torch.tensor([[30.0, 0.0], [0.0, 30.0]])
        >>> ecr.update(None, logits, labels=torch.tensor([0, 1]))
        >>> ecr.compute(), ecr.usable_information()
        (tensor(0.0500), tensor(1., dtype=torch.float64))
    """

    num_invalid: Tensor
    higher_is_better = True
    facts_of_run: ClassVar[dict[str, str]] = {"num_params": "total_params"}
    undefined = (
        "no output was seen, the model has fewer than two parameters, or the estimator failed: see its own warning"
    )

    def __init__(
        self,
        num_params: float,
        estimator: Literal["predictive", "usable", "gaussian_copula", "gaussian", "ksg", "seed"] = "predictive",
        *,
        num_classes: int = 1024,
        num_features: tuple[int, int] | None = None,
        num_samples: int = 10_000,
        noise: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        compression.effective_compression_ratio(0.0, num_params)  # raises for a size that makes no sense
        self.num_params = num_params
        self.estimator = estimator
        self.num_classes = num_classes
        self.num_features = num_features
        self.num_samples = num_samples
        self.noise = noise
        if estimator in ("predictive", "usable"):
            for name in predictions.PredictionSums._fields:
                self.add_sum(name, (num_classes,) if name in ("probability", "label_counts") else ())
            self.add_sum("num_invalid", dtype=torch.int64)
        elif estimator not in _OF_SAMPLES:
            raise ValueError(
                f"estimator must be one of predictive, usable, {', '.join(_OF_SAMPLES)}, got {estimator!r}"
            )
        elif num_features is None:
            raise ValueError(
                f"estimator={estimator!r} keeps samples: give num_features=(columns of the inputs, of the outputs)"
            )
        elif min(num_features) < 1:
            raise ValueError(f"num_features must be at least 1 each, got {num_features}")
        else:
            self.add_samples(num_samples, sum(num_features), torch.float32)
            if noise is None and estimator != "seed":
                warn(
                    "a network without noise carries infinite information about a continuous input; say with how much "
                    "its outputs are read, as noise=0.1 of their standard deviation, or noise=0.0 if they are random",
                    UserWarning,
                    stacklevel=3,
                )

    def update(self, inputs: Tensor | None, outputs: Tensor, labels: Tensor | None = None) -> None:
        """Add a batch of outputs, with what the estimator compares them with."""
        if self.estimator in _OF_SAMPLES:
            self.keep(self._rows(inputs, outputs))
            return
        if labels is None and self.estimator == "usable":
            raise ValueError("estimator='usable' needs labels, [...] integers for logits [..., K]")
        num_classes = outputs.shape[-1] if outputs.dim() else 0
        if num_classes < 2:
            raise ValueError(f"outputs must be logits [..., K] with K >= 2 classes, got {tuple(outputs.shape)}")
        if num_classes > self.num_classes:
            raise ValueError(f"outputs have {num_classes} classes, more than num_classes={self.num_classes}: raise it")
        if labels is not None:
            outside = labels >= num_classes
            self.num_invalid += outside.sum()
            labels = torch.where(outside, -1, labels)
        sums = predictions.predictions_update(outputs, labels)
        self.num_dropped += outputs[..., 0].numel() - sums.num_rows
        for name, value in sums._asdict().items():
            total = getattr(self, name)
            (total[:num_classes] if value.dim() else total).add_(value)

    def _rows(self, inputs: Tensor | None, outputs: Tensor) -> Tensor:
        if inputs is None or len(inputs) != len(outputs):
            raise ValueError(f"estimator={self.estimator!r} compares inputs with outputs, row by row")
        sides = [side.detach().reshape(len(side), -1).to(self.samples) for side in (inputs, outputs)]
        if tuple(side.shape[1] for side in sides) != self.num_features:
            raise ValueError(
                f"inputs and outputs must flatten to num_features={self.num_features} columns, "
                f"got {tuple(side.shape[1] for side in sides)}"
            )
        return torch.cat(sides, dim=1)

    def _sums(self) -> predictions.PredictionSums:
        if self.estimator in _OF_SAMPLES:
            raise ValueError(f"estimator={self.estimator!r} has no predictions; use 'predictive' or 'usable'")
        if self.num_invalid > 0:
            raise ValueError(f"{int(self.num_invalid)} labels were not below the number of classes")
        return predictions.PredictionSums(*(getattr(self, name) for name in predictions.PredictionSums._fields))

    def _bits(self) -> Tensor:
        if self.estimator == "predictive":
            return predictions.predictive_information_compute(self._sums())
        if self.estimator == "usable":
            return predictions.usable_information_compute(self._sums())
        rows = self.kept()
        if len(rows) == 0:
            return rows.new_tensor(torch.nan)
        inputs, outputs = torch.split(rows, list(self.num_features or ()), dim=1)
        if self.noise:
            # Its own generator, which training does not feel, and a seed that data are not likely to be drawn with.
            drawn = torch.randn(outputs.shape, generator=torch.Generator().manual_seed(20_150_131)).to(outputs)
            outputs = outputs + self.noise * outputs.std(0) * drawn
        return _OF_SAMPLES[self.estimator](inputs, outputs).to(rows.device)

    def compute(self) -> Tensor:
        """I(X; Y) / log2 N."""
        return compression.effective_compression_ratio(self._bits(), self.num_params)

    @companion
    def information(self) -> Tensor:
        """The numerator, in bits per example."""
        return self._bits()

    @companion
    def usable_information(self) -> Tensor:
        """H(Y) - CE(Y given X) of the labels given so far, in bits per example; NaN without labels."""
        return predictions.usable_information_compute(self._sums())
