"""Where a training loop is."""

from __future__ import annotations

from enum import Enum


class Phase(Enum):
    """What the forward passes that run now belong to; the :class:`Collector` alone changes it.

    ============== ================================================================================================
    ``FORWARD``    training: they fill the training window
    ``BACKWARD``   the backward pass: they are recomputed by activation checkpointing, and are ignored
    ``VALIDATION`` a validation: they fill a window of its own
    ============== ================================================================================================
    """

    FORWARD = "forward"
    BACKWARD = "backward"
    VALIDATION = "validation"
