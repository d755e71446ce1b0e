"""What a Monitor hands to its sinks, and that one that fails costs itself alone."""

import pytest
import torch
from torch import nn

from intensive_callbacks import Monitor, Sink


class Keeping(Sink):
    """Keeps what it is given; raises from the methods that it is told to."""

    def __init__(self, *broken):
        self.calls, self.broken = [], broken

    def _keep(self, method, *arguments):
        self.calls.append((method, *arguments))
        if method in self.broken:
            raise ConnectionError(method)

    def log_values(self, values, step):
        self._keep("values", step)

    def log_chart(self, name, rows, *, final=True):
        self._keep("chart" if final else "preview", name, len(rows))

    def log_table(self, key, table):
        self._keep("table", key)

    def close(self):
        self._keep("close")

    def of(self, method):
        return [rest for name, *rest in self.calls if name == method]


def watch(num_steps, *sinks):
    model, inputs = nn.Linear(4, 2), torch.ones(8, 4)
    with Monitor(model, every_n_steps=1, benchmark=None, sinks=sinks) as monitor:
        for step in range(1, num_steps + 1):
            monitor.observe(inputs)
            model(inputs)
            monitor.log(step, accuracy=0.5, x=10 * step)
    monitor.finish()
    return monitor


def test_values_come_at_the_x_axis_of_the_loop():
    sink = Keeping()
    watch(3, sink)
    assert sink.of("values") == [[10], [20], [30]]


def test_the_overview_is_shown_at_each_doubling_and_at_the_end():
    sink = Keeping()
    watch(70, sink)
    assert sink.of("preview") == [["overview", 16], ["overview", 32], ["overview", 64]]
    assert sink.of("chart") == [["overview", 70]]
    assert [name for name, *_ in sink.calls][-3:] == ["table", "chart", "close"]


@pytest.mark.parametrize("method", ["values", "preview", "table", "chart"])
def test_a_sink_that_fails_is_asked_no_more_and_told_once(method):
    broken, whole = Keeping(method), Keeping()
    with pytest.warns(RuntimeWarning, match="intensive_callbacks: Keeping, .* failed and is switched off") as caught:
        watch(70, broken, whole)
    assert len([each for each in caught if "Keeping" in str(each.message)]) == 1
    assert len(broken.of(method)) == 1
    assert len(whole.of("values")) == 70
    others = {"values", "preview", "table", "chart", "close"} - {method}
    assert all(broken.of(other) == whole.of(other) for other in others)
