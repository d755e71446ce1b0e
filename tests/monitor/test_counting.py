"""Examples and tokens of a batch in every form that loaders give, or one question about them."""

import warnings
from collections import UserDict
from dataclasses import dataclass

import pytest
import torch

from intensive_callbacks import Monitor
from intensive_callbacks.boundary import Boundary
from intensive_callbacks.monitor.counting import BatchCounter

IDS = torch.zeros(8, 16, dtype=torch.int64)
IMAGES, LABELS = torch.zeros(8, 3, 4, 4), torch.zeros(8, dtype=torch.int64)


@dataclass
class Pair:
    image: torch.Tensor
    label: torch.Tensor


def counted(batch, parts=(), **functions):
    """What a counter says of a batch, and what it asks."""
    counter = BatchCounter(functions.get("num_examples"), functions.get("num_tokens"), Boundary())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        count = counter.count(batch, parts)
        assert counter.count(batch, parts) == count  # a second batch asks nothing
    return tuple(count), [str(each.message) for each in caught]


@pytest.mark.parametrize(
    "batch",
    [
        IMAGES,
        (IMAGES, LABELS),
        {"image": IMAGES, "label": LABELS},
        ({"left": IMAGES, "right": IMAGES}, [LABELS, "names"]),
        UserDict(image=IMAGES, label=LABELS),
        Pair(IMAGES, LABELS),
        (torch.tensor(0.5), IMAGES),
    ],
    ids=lambda batch: type(batch).__name__,
)
def test_examples_of_every_structure(batch):
    assert counted(batch) == ((8, None, 8), [])


@pytest.mark.parametrize(
    "batch",
    [
        {"input_ids": IDS},
        UserDict(input_ids=IDS, labels=LABELS),
        (IDS, IDS),
        [IDS.int(), IDS],
        {"x": IDS, "y": IDS},
        (IDS, IDS, torch.ones(8, 16)),
        IDS,
        {"pixels": torch.zeros(3, 4), "input_ids": IDS},
    ],
    ids=lambda batch: type(batch).__name__,
)
def test_tokens_of_ids_and_of_sequences_with_a_label_each(batch):
    assert counted(batch) == ((8, 128, 128), [])


@pytest.mark.parametrize(
    "batch", [(IMAGES, IDS), (LABELS, LABELS), (IDS[:, :1], IDS[:, :1]), (IDS.bool(), IDS.bool()), (IDS.float(), IDS)]
)
def test_what_is_no_sequence_has_no_tokens(batch):
    (_, tokens, positions), _ = counted(batch)
    assert (tokens, positions) == (None, 8)


def test_several_loaders_are_added_up():
    batch = {"a": (IMAGES, LABELS), "b": [(IMAGES[:3], LABELS[:3]), (IMAGES, LABELS)]}
    parts = [batch["a"], *batch["b"]]
    assert counted(batch, parts) == ((19, None, 19), [])
    assert counted([(IDS, IDS), (IDS[:2], IDS[:2])], [(IDS, IDS), (IDS[:2], IDS[:2])]) == ((10, 160, 160), [])


@pytest.mark.parametrize("batch", [(IMAGES, torch.zeros(5)), [torch.zeros(3, 4, 5), torch.zeros(2, 4, 6)], "text"])
def test_examples_that_cannot_be_told_are_asked_for_once(batch):
    (_, _, _), asked = counted(batch)
    assert len(asked) == 1
    assert "pass num_examples=" in asked[0]
    assert counted(batch, num_examples=lambda _: 7) == ((7, None, 7), [])


def test_integers_with_one_label_a_row_are_asked_about_once():
    _, asked = counted((IDS, LABELS))
    assert len(asked) == 1
    assert "[8, 16] without a label for each" in asked[0]
    assert "num_tokens=" in asked[0]
    assert counted((IDS, LABELS), num_tokens=lambda batch: batch[0].numel()) == ((8, 128, 128), [])
    assert counted((IDS, LABELS), num_tokens=lambda batch: None) == ((8, None, 8), [])


@pytest.mark.parametrize(("labels", "imagenet"), [(IDS, False), (LABELS, False), (None, True)])
def test_vision_models_stand_beside_no_language_model(labels, imagenet):
    model = torch.nn.Linear(16, 2)
    batch = (IDS, labels) if labels is not None else (IDS.float(), LABELS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Monitor(model, every_n_steps=1) as monitor:
            monitor.observe(batch)
            model(batch[0].float())
            monitor.log(1, accuracy=0.5)
        assert ("ImageNet" in monitor.finish().to_markdown()) == imagenet
