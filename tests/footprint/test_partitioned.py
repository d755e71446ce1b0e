"""DeepSpeed's ZeRO-3 leaves empty parameters that know their true size: no shard is taken for the model."""

import warnings

import pytest
import torch

from intensive_callbacks import Monitor, count_parameters


def partition(model):
    """As ZeRO-3 does outside of a forward pass."""
    for parameter in model.parameters():
        vars(parameter).update(ds_id=id(parameter), ds_numel=parameter.numel(), ds_shape=parameter.shape)
        parameter.data = torch.empty(0)


def logged(monitor):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        monitor.observe(torch.zeros(4, 8))
        return monitor.log(1, 0.5, num_examples=4)


def test_a_monitor_made_before_knows_the_whole_model():
    model = torch.nn.Linear(8, 3)
    monitor = Monitor(model, every_n_steps=1, metrics=["P3"], benchmark=None)
    partition(model)
    assert logged(monitor)["intensive/p3_score"] == pytest.approx(50 / 27e-9)


def test_a_monitor_made_after_says_nothing_of_a_shard():
    model = torch.nn.Linear(8, 3)
    partition(model)
    with pytest.raises(ValueError, match="ZeRO-3 shows only this rank's shard"):
        count_parameters(model)
    with pytest.warns(RuntimeWarning, match="make the Monitor before"):
        monitor = Monitor(model, every_n_steps=1, benchmark=None)
    assert "intensive/p3_score" not in logged(monitor)
