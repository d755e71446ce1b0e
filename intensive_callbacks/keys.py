"""The former name of :mod:`intensive_callbacks.cards`: importing it gives that module."""

import sys

from intensive_callbacks import cards

sys.modules[__name__] = cards
