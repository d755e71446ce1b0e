"""When values are formed: the exact log calls of every way to train."""

import time

import pytest
import pytorch_lightning as pl
import torch
from torch.nn import functional as F

from callback.runs import LogCalls, fit, untimed
from digits import DigitsClassifier, loaders
from intensive_callbacks import IntensiveMetricsCallback

ROUTING = "routing/load_entropy"
P3 = "intensive/p3_score"


def watching(every_n_steps=4, accuracy="val/accuracy", **settings):
    return IntensiveMetricsCallback(
        accuracy, **{"every_n_steps": every_n_steps, "random_baseline": 0.1, "benchmark": None, **settings}
    )


def logged(key, logger):
    """The x positions at which a key was logged."""
    return [step for step, values in logger.calls if key in values]


def run(callback, *others, **settings):
    logger = LogCalls()
    trainer = fit(callback, *others, logger=logger, log_every_n_steps=1, **settings)
    return trainer, logger


# 320 examples in batches of 32 are 10 batches an epoch; two epochs by default.


def test_values_every_n_steps_and_after_each_validation():
    trainer, logger = run(watching())
    assert logged("baseline/total_params", logger) == [0]
    assert logged(ROUTING, logger) == [3, 7, 11, 15, 19]  # steps 4, 8, ... end at x = step - 1
    assert logged(P3, logger) == [9, 19]  # the validations after each epoch
    assert logged("intensive/config_entropy", logger) == [9, 19]
    assert trainer.global_step == 20


def test_the_x_axis_is_lightnings_own():
    class Logging(DigitsClassifier):
        def training_step(self, batch, _):
            loss = super().training_step(batch, _)
            self.log("logged", float(self.trainer.global_step))
            return loss

    _, logger = run(watching(every_n_steps=1), model=Logging())
    of_lightning = [step for step, values in logger.calls if "logged" in values]
    assert logged(ROUTING, logger) == of_lightning
    validations = [step for step, values in logger.calls if "val/accuracy" in values and P3 not in values]
    assert logged(P3, logger) == validations


def test_one_call_per_event_without_repeating_a_stale_accuracy():
    _, logger = run(watching(every_n_steps=2))
    rows = logger.rows()
    assert [step for step, _ in rows] == [0, 1, 3, 5, 7, 9, 9, 11, 13, 15, 17, 19, 19]
    assert sum(P3 in values for _, values in rows) == 2


@pytest.mark.parametrize(("accumulate", "steps"), [(2, [3, 7]), (3, [3, 7]), (10, [1])])
def test_accumulation_counts_optimizer_steps(accumulate, steps):
    # 2 epochs of 10 batches: 10 steps; 8 (the last batch of an epoch steps, too); 2, logged at the end.
    _, logger = run(watching(), accumulate_grad_batches=accumulate)
    assert logged(ROUTING, logger) == steps


def test_max_steps_in_mid_accumulation():
    trainer, logger = run(watching(every_n_steps=2), accumulate_grad_batches=4, max_steps=3, max_epochs=-1)
    assert trainer.global_step == 3
    assert logged(ROUTING, logger) == [1]


class TwoOptimizers(DigitsClassifier):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch, _):
        images, labels = batch
        for optimizer in self.optimizers():
            optimizer.zero_grad()
            self.manual_backward(F.cross_entropy(self(images), labels))
            optimizer.step()

    def configure_optimizers(self):
        return [torch.optim.SGD(self.blocks.parameters(), 0.1), torch.optim.SGD(self.head.parameters(), 0.1)]


@pytest.mark.parametrize(("n", "steps"), [(3, [1, 2, 4, 5, 7, 8]), (4, [1, 3, 5, 7, 9])])
def test_several_optimizers_do_not_miss_odd_n(n, steps):
    # global_step goes 2, 4, ..., 20; x is the batch. N = 3 is crossed at 4, 6, 10, 12, 16, 18.
    _, logger = run(watching(every_n_steps=n), model=TwoOptimizers(), max_epochs=1)
    assert logged(ROUTING, logger) == steps


def test_validation_in_between():
    _, logger = run(watching(), val_check_interval=5, max_epochs=1)
    assert logged(P3, logger) == [4, 9]
    assert logged(ROUTING, logger) == [3, 7]


def test_the_windows_of_training_and_validation_are_apart():
    seen = {}

    class Look(pl.Callback):
        def on_validation_batch_end(self, trainer, pl_module, *_):
            window = watcher.monitor.observer.statistics["blocks.0"].states()
            seen.setdefault(trainer.global_step, []).append(int(window["num_tokens"]))

        def on_train_batch_end(self, trainer, pl_module, *_):
            window = watcher.monitor.observer.statistics["blocks.0"].states()
            seen[f"train {trainer.global_step}"] = int(window["num_tokens"])

    watcher = watching()
    run(watcher, Look(), val_check_interval=5, max_epochs=1)
    assert seen[5] == [40, 80, 96]  # this validation's examples, batch by batch
    assert seen["train 6"] == 2 * 32  # steps 5 and 6, although a validation came between
    assert seen["train 8"] == 0  # emptied when logged


def test_the_sanity_check_leaves_no_trace():
    with_check, without = (run(watching(), num_sanity_val_steps=n)[1] for n in (2, 0))
    assert str(untimed(with_check.rows())) == str(untimed(without.rows()))


def test_fast_dev_run():
    callback = watching()
    trainer = fit(callback, fast_dev_run=True)
    assert trainer.global_step == 1
    assert callback.history.newest()[P3] > 0


def test_a_second_fit_goes_on():
    callback, logger = watching(), LogCalls()
    trainer = fit(callback, logger=logger, max_epochs=1)
    trainer.fit_loop.max_epochs = 2
    trainer.fit(trainer.lightning_module, *loaders())
    assert logged(ROUTING, logger) == [3, 7, 11, 15, 19]
    assert [row["step"] for row in callback.history.rows() if P3 in row] == [10, 20]


def test_a_second_fit_of_another_model_starts_anew():
    callback = watching()
    fit(callback, max_epochs=1)
    fit(callback, max_epochs=1, model=DigitsClassifier(width=16))
    assert [row["step"] for row in callback.history.rows() if P3 in row] == [10]
    assert callback.monitor.facts.total_params < 70_000 / 2 + 2_000


def test_validate_and_test_without_fit_do_nothing():
    class Tested(DigitsClassifier):
        test_step = DigitsClassifier.validation_step

    logger, callback = LogCalls(), watching()
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = pl.Trainer(callbacks=[callback], logger=logger, **quiet)
    trainer.validate(Tested(), loaders()[1], verbose=False)
    trainer.test(Tested(), loaders()[1], verbose=False)
    assert logger.rows() == []
    assert callback.monitor is None


def test_early_stopping_on_a_value_of_ours():
    stopping = pl.callbacks.EarlyStopping(P3, mode="max", patience=1, min_delta=1e12)
    trainer, logger = run(watching(), stopping, max_epochs=9)
    assert trainer.current_epoch == 2
    assert logged(P3, logger) == [9, 19]


def test_model_checkpoint_monitors_a_value_of_ours(tmp_path):
    best = pl.callbacks.ModelCheckpoint(tmp_path, monitor=P3, mode="max")
    callback = watching()
    trainer, _ = run(callback, best, enable_checkpointing=True)
    values = [row[P3] for row in callback.history.rows() if P3 in row]
    assert float(best.best_model_score) == pytest.approx(max(values), rel=1e-6)
    assert float(trainer.callback_metrics[P3]) == pytest.approx(values[-1], rel=1e-6)


def test_stochastic_weight_averaging_copies_no_hook():
    averaging = pl.callbacks.StochasticWeightAveraging(swa_lrs=1e-3, swa_epoch_start=1, annealing_epochs=1)
    _, logger = run(watching(), averaging, max_epochs=3)
    assert logged(ROUTING, logger) == [3, 7, 11, 15, 19, 23, 27]


@pytest.mark.parametrize("first", [True, False])
def test_the_learning_rate_finder_does_not_count(first, tmp_path):
    class Tunable(DigitsClassifier):
        lr = 1e-3

        def configure_optimizers(self):
            return torch.optim.AdamW(self.parameters(), self.lr)

    finder = pl.callbacks.LearningRateFinder(num_training_steps=5, early_stop_threshold=None)
    callback = watching()
    callbacks = [finder, callback] if first else [callback, finder]
    logger = LogCalls()
    fit(*callbacks, model=Tunable(), logger=logger, default_root_dir=tmp_path, max_epochs=1)
    assert logged(ROUTING, logger) == [3, 7]
    assert int(callback.monitor.facts.seen_examples) == 320  # of this epoch, and none of the finder's


def test_an_accuracy_that_training_logs():
    class Logging(DigitsClassifier):
        def training_step(self, batch, _):
            images, labels = batch
            logits = self(images)
            self.log("train/accuracy", (logits.argmax(-1) == labels).float().mean())
            return F.cross_entropy(logits, labels)

    _, logger = run(watching(accuracy="train/accuracy"), model=Logging(), limit_val_batches=0)
    assert logged(P3, logger) == [3, 7, 11, 15, 19]
    values = {step: value["train/accuracy"] for step, value in logger.calls if "train/accuracy" in value}
    points = {step: value[P3] for step, value in logger.calls if P3 in value}
    assert points[7] / points[3] == pytest.approx(values[7] / values[3], rel=1e-5)


def test_a_callable_accuracy_every_n_steps():
    calls = []

    def accuracy(trainer, pl_module):
        calls.append(trainer.global_step)
        return 0.5

    _, logger = run(watching(accuracy=accuracy), limit_val_batches=0)
    assert calls == [4, 8, 12, 16, 20]
    assert logged(P3, logger) == [3, 7, 11, 15, 19]


def test_chance_is_measured_on_the_untrained_model():
    torch.manual_seed(7)
    pl.seed_everything(7, verbose=False)
    model = DigitsClassifier()
    images, labels = next(iter(torch.utils.data.DataLoader(loaders()[1].dataset, 96)))
    with torch.no_grad():
        untrained = float((model(images).argmax(-1) == labels).double().mean())
    _, logger = run(watching(random_baseline="measure"), model=model)
    assert logger.rows()[0][1]["baseline/random_accuracy"] == pytest.approx(untrained, rel=1e-6)


def test_a_metric_beside_the_default_ones():
    _, logger = run(watching(metrics=["default", "routing/margin"], random_baseline=None), max_epochs=1)
    rows = [set(values) for _, values in logger.rows(("intensive/", "routing/"))]
    _, logger = run(watching(random_baseline=None), max_epochs=1)
    alone = [set(values) for _, values in logger.rows(("intensive/", "routing/"))]
    assert [keys - before for keys, before in zip(rows, alone, strict=True)] == [
        {"routing/margin"} if "routing/router_z" in before else set() for before in alone
    ]


def test_without_chance_what_needs_it_is_absent():
    _, logger = run(watching(random_baseline=None))
    assert logged("intensive/relevance_rate", logger) == []
    assert logged(P3, logger) == [9, 19]


def test_generalization_efficiency_while_every_example_is_new():
    callback = watching(metrics=["P3", "GE"])
    _, logger = run(callback, val_check_interval=5)
    points = {row["step"]: row[P3] for row in callback.history.rows() if P3 in row}
    params = callback.monitor.facts.active_params
    accuracies = {step: value * params / 1e11 for step, value in points.items()}
    assert sorted(accuracies) == [5, 10, 15, 20]
    assert logged("intensive/generalization_efficiency", logger) == [9]  # half of the epoch, all of it; then repeats
    values = callback.history.newest()
    expected = 100 * (accuracies[10] - accuracies[5]) / 160
    assert values["intensive/generalization_efficiency"] == pytest.approx(expected, rel=1e-6)


def test_speed_leaves_out_what_validation_takes():
    class Slow(DigitsClassifier):
        def validation_step(self, batch, index):
            time.sleep(0.2)
            super().validation_step(batch, index)

    start = time.perf_counter()
    callback = watching(every_n_steps=10)
    _, logger = run(callback, model=Slow(), val_check_interval=5, max_epochs=1)  # 2 x 3 batches of validation
    elapsed = time.perf_counter() - start
    assert logged("cost/examples_per_second", logger) == [9]
    training_took = 320 / callback.history.newest()["cost/examples_per_second"]
    assert 0 < training_took < elapsed - 6 * 0.2
    measured = next(iter(callback.monitor.finish().groups.values()))[0].measured
    assert measured["cost/examples_per_second"] == callback.history.newest()["cost/examples_per_second"]
