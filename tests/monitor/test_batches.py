"""Tokens of a batch: every form of mask gives the number of positions that are no padding."""

from __future__ import annotations

import pytest
import torch

from intensive_callbacks.monitor.batches import num_tokens

B, S = 3, 5
REAL = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0]], dtype=torch.bool)  # 9 tokens
IDS = torch.ones(B, S, dtype=torch.long)
CAUSAL = torch.ones(S, S, dtype=torch.bool).tril()
BOTH = CAUSAL & REAL[:, None, :]
DOCUMENTS = torch.tensor([[1, 1, 2, 0, 0], [1, 2, 2, 3, 3], [7, 0, 0, 0, 0]])


def added(mask, low):
    return torch.zeros(mask.shape).masked_fill(~mask, low)


@pytest.mark.parametrize(
    "mask",
    [
        REAL,
        REAL.long(),
        REAL.float(),
        DOCUMENTS,
        added(REAL, -torch.inf),
        added(REAL, -1e4),
        BOTH,
        BOTH[:, None],
        BOTH[:, None].expand(B, 2, S, S),
        REAL[:, None, None],
        added(BOTH[:, None], torch.finfo(torch.float32).min),
        added(REAL[:, None, None], -1e9),
    ],
    ids=lambda mask: f"{list(mask.shape)} {mask.dtype}",
)
def test_tokens_of_every_form_of_attention_mask(mask):
    assert int(num_tokens({"input_ids": IDS, "attention_mask": mask})) == 9


@pytest.mark.parametrize("name", ["src_key_padding_mask", "key_padding_mask", "padding_mask"])
@pytest.mark.parametrize("padding", [~REAL, (~REAL).long(), added(REAL, -torch.inf)], ids=["bool", "0/1", "added"])
def test_what_is_true_in_a_padding_mask_is_padding(name, padding):
    assert int(num_tokens({"input_ids": IDS, name: padding})) == 9


@pytest.mark.parametrize("size", [S, B], ids=["S", "as many sequences as positions"])
def test_a_causal_mask_is_no_padding_mask(size):
    ids = torch.ones(B, size, dtype=torch.long)
    causal = torch.ones(size, size).tril()
    for mask in (causal, causal.bool(), added(causal.bool(), -torch.inf)):
        assert num_tokens({"input_ids": ids, "attention_mask": mask}) == ids.numel()


def test_an_added_mask_without_padding_hides_nothing():
    assert int(num_tokens({"input_ids": IDS, "attention_mask": torch.zeros(B, S)})) == B * S


def test_a_mask_of_ones_and_as_many_sequences_as_positions():
    assert int(num_tokens({"input_ids": torch.ones(3, 3), "attention_mask": torch.ones(3, 3)})) == 9


def test_tokens_without_ids_or_with_the_user_s_mask():
    assert int(num_tokens({"inputs_embeds": torch.zeros(B, S, 4), "attention_mask": REAL})) == 9
    assert int(num_tokens({"input_ids": IDS}, REAL)) == 9
    assert num_tokens({"input_ids": IDS}) == 15
    assert num_tokens(torch.zeros(2, 3)) is None
