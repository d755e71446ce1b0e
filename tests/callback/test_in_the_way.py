"""What people do in a run that must neither end nor change it, nor be passed over in silence."""

import copy
import io
import math
import pickle
import warnings

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F

from callback.runs import LogCalls, fit, num_hooks
from digits import DigitsClassifier
from intensive_callbacks import ConfigurationEntropyScore, EffectiveExperts, IntensiveMetricsCallback, Tap

P3 = "intensive/p3_score"


def watching(accuracy="val/accuracy", **settings):
    return IntensiveMetricsCallback(
        accuracy, **{"every_n_steps": 4, "random_baseline": 0.1, "benchmark": None, **settings}
    )


def weights(trainer):
    return [p for p in trainer.lightning_module.parameters() if not isinstance(p, nn.UninitializedParameter)]


def is_undisturbed(model, callback, *others, **settings):
    """Whether a fit has the same weights, and no hook left, with the callback as without."""
    alone = fit(*others, model=build(model), **settings)
    watched = fit(callback, *others, model=build(model), **settings)
    same = all(map(torch.equal, weights(alone), weights(watched)))
    return same and num_hooks(watched.lightning_module) == num_hooks(alone.lightning_module)


def build(model):
    torch.manual_seed(7)
    return model()


def messages(function):
    """What a function warns about."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        function()
    return [str(each.message) for each in caught if "intensive_callbacks" in str(each.message)]


# Nothing ends or changes a run.


class Copies(pl.Callback):
    """Copies, pickles and saves the module in mid-training, and runs the copies."""

    def on_train_batch_end(self, trainer, pl_module, *_):
        if trainer.global_step != 6:
            return
        buffer = io.BytesIO()
        trainer_of = pl_module._trainer
        pl_module._trainer = None
        try:
            torch.save(pl_module.blocks, buffer)
            copies = [copy.deepcopy(pl_module.blocks), pickle.loads(pickle.dumps(pl_module.blocks))]
        finally:
            pl_module._trainer = trainer_of
        buffer.seek(0)
        copies.append(torch.load(buffer, weights_only=False))
        before = self.callback.monitor.observer.read().num_tokens
        for each in copies:
            for block in each:
                block(torch.ones(8, 32))
        assert self.callback.monitor.observer.read().num_tokens == before  # a copy is nobody's model


def test_copies_made_in_training_are_not_observed():
    callback, copies = (
        watching(taps=[Tap("blocks.0", lambda i, o: o.argmax(-1), ConfigurationEntropyScore(32))]),
        Copies(),
    )
    copies.callback = callback
    fit(callback, copies, max_epochs=1)
    assert callback.history.newest()[P3] > 0


class Lazy(DigitsClassifier):
    def __init__(self):
        super().__init__()
        self.embed = nn.LazyLinear(32)

    def configure_optimizers(self):
        return torch.optim.SGD(self.blocks.parameters(), lr=0.1)


class Raising(DigitsClassifier):
    """A block whose config is not there yet."""

    class Block(nn.Module):
        @property
        def config(self):
            raise RuntimeError("not yet")

        def forward(self, x):
            return x

    def __init__(self):
        super().__init__()
        self.blocks.append(self.Block())


class Jagged(DigitsClassifier):
    def forward(self, x):
        nested = torch.nested.nested_tensor([torch.ones(3, 8), torch.ones(5, 8)], layout=torch.jagged)
        F.linear(nested, torch.ones(4, 8))
        return super().forward(x)


@pytest.mark.parametrize("model", [Lazy, Raising, Jagged])
def test_an_odd_model_trains_as_without(model):
    callback = watching()
    assert is_undisturbed(model, callback, max_epochs=1)
    assert callback.history.newest()[P3] > 0


def test_warnings_as_errors_end_no_run():
    def broken(inputs, output):
        raise RuntimeError("broken tap")

    with warnings.catch_warnings():
        warnings.filterwarnings("error", category=RuntimeWarning)
        callback = watching(taps=[Tap("head", broken, ConfigurationEntropyScore(10))])
        assert is_undisturbed(DigitsClassifier, callback, max_epochs=1)
    assert callback.history.newest()[P3] > 0


class Noisy(DigitsClassifier):
    def forward(self, x):
        return super().forward(F.dropout(x, 0.1, self.training))


def test_random_numbers_of_taps_and_readers_are_undone():
    def read(inputs, output):
        torch.set_grad_enabled(False)
        return output[torch.randperm(len(output))[:4]].argmax(-1)

    def reader(inputs, output):
        return {"expert_ids": output.topk(2).indices, "mask": torch.rand(len(output)) < 2}

    settings = {"taps": [Tap("head", read, ConfigurationEntropyScore(10))], "routers": {"blocks.*.gate": reader}}
    assert is_undisturbed(Noisy, watching(**settings), max_epochs=1)


class Growing(DigitsClassifier):
    def on_train_epoch_start(self):
        if self.current_epoch == 1:
            self.extra = nn.Linear(100, 100)
        if self.current_epoch == 2:
            del self.extra


def test_sizes_are_those_of_the_model_as_it_is():
    callback, logger = watching(), LogCalls()
    trainer = fit(callback, model=Growing(), max_epochs=3, logger=logger)
    num_bytes = sum(parameter.nbytes for parameter in trainer.lightning_module.parameters())
    accuracies = [values["val/accuracy"] for _, values in logger.calls if "val/accuracy" in values]
    scores = [values["intensive/memory_efficiency"] for _, values in logger.calls if P3 in values]
    sizes = [num_bytes, num_bytes + 4 * 10_100, num_bytes]
    assert scores == pytest.approx(
        [100 * a / (size / 1e9) for a, size in zip(accuracies, sizes, strict=True)], rel=1e-5
    )


def test_two_callbacks_each_have_their_own_steps(tmp_path):
    first, second = watching(), watching(None, every_n_steps=3)
    keeping = pl.callbacks.ModelCheckpoint(tmp_path, filename="both")
    assert is_undisturbed(DigitsClassifier, first, second, max_epochs=1)
    first, second = watching(), watching(None, every_n_steps=3)
    fit(first, second, keeping, max_epochs=1, enable_checkpointing=True)
    steps = [[row["step"] for row in each.history.rows() if "routing/load_cv2" in row] for each in (first, second)]
    assert steps == [[4, 8], [3, 6, 9]]
    states = torch.load(tmp_path / "both.ckpt")["callbacks"]
    assert {first.state_key, second.state_key} <= states.keys()


# Nothing is passed over in silence.


@pytest.mark.parametrize("settings", [{"num_sanity_val_steps": 0}, {"fast_dev_run": True}], ids=str)
@pytest.mark.parametrize("key", ["val/acuracy", "train/acuracy"])
def test_a_mistyped_key_is_named_beside_those_there_are(key, settings):
    said = [text for text in messages(lambda: fit(watching(key), **settings)) if key in text]
    assert len(said) == 1
    assert "val/accuracy" in said[0]


class Percent(DigitsClassifier):
    def validation_step(self, batch, _):
        accuracy = (self(batch[0]).argmax(-1) == batch[1]).float().mean()
        self.log("val/accuracy", accuracy if self.current_epoch == 0 else 100 * accuracy)


def test_an_accuracy_that_turns_unusable_is_nan_and_never_0(capsys):
    callback, logger = watching(), LogCalls()
    said = messages(lambda: fit(callback, model=Percent(), logger=logger))
    assert sum("must be a fraction" in text for text in said) == 1
    scores = [values[P3] for _, values in logger.calls if P3 in values]
    assert scores[0] > 0
    assert math.isnan(scores[1])
    assert "0.0%" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("metrics", "says"),
    [
        (["P3", "P/J"], "P/J was asked for and is not logged: no GPU counts energy"),
        (["P3", "COI"], "COI was asked for and is not logged: it needs tokens"),
        (["P3", "GE"], "GE was asked for and is not logged: it needs accuracies at two numbers"),
    ],
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_what_is_asked_for_and_absent_is_said_once(metrics, says):
    said = messages(lambda: fit(watching(metrics=metrics), max_epochs=1))
    assert sum(says in text for text in said) == 1


def test_strict_raises_where_something_asked_for_is_absent():
    with pytest.raises(RuntimeError, match="COI was asked for and is not logged"):
        fit(watching(metrics=["COI"], strict=True), max_epochs=1)


def test_ids_that_are_no_experts_are_nan_and_named():
    reader = {"blocks.*.gate": lambda inputs, output: {"expert_ids": output.topk(2).indices + 7}}
    callback = watching(routers=reader)
    said = messages(lambda: fit(callback, max_epochs=1))
    assert any("blocks.0" in text and "id" in text for text in said)
    newest = callback.history.newest()
    keys = ["routing/load_entropy", "routing/dead_experts", "routing/drop_rate", "intensive/config_entropy"]
    assert all(math.isnan(newest[key]) for key in keys)
    assert newest[P3] > 0


def test_no_key_is_another_one_plus_a_slash():
    callback, logger = watching(per_layer=True, metrics=["default", EffectiveExperts(8)]), LogCalls()
    fit(callback, logger=logger, max_epochs=1)
    keys = {key for _, values in logger.calls for key in values}
    assert [key for key in keys for other in keys if key.startswith(f"{other}/")] == []
    assert {"routing/max_violation_worst", "routing_by_layer/max_violation/blocks.1"} <= keys
