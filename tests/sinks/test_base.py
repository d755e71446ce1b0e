import inspect
import json
import subprocess
import sys

import intensive_callbacks.sinks as package
from intensive_callbacks.sinks import Sink
from sinks.logged import P3, log_all

METHODS = {"alert", "close", "log_chart", "log_table", "log_values", "publish", "set_summary"}


def test_a_sink_of_a_third_party_overrides_one_method():
    class Newest(Sink):
        def __init__(self):
            self.seen = []

        def log_values(self, values, step):
            self.seen.append((step, values[P3]))

    sink = Newest()
    log_all(sink)
    assert sink.seen == [(49, 1.0), (99, 2.0)]
    assert sink.name == "Newest"


def test_the_protocol_is_the_same_for_every_sink():
    assert {name for name, value in vars(Sink).items() if inspect.isfunction(value)} == METHODS
    for name in package.__all__:
        kind = getattr(package, name)
        if inspect.isclass(kind):
            assert issubclass(kind, Sink)
            for method in METHODS:
                expected = inspect.signature(getattr(Sink, method)).parameters
                assert list(inspect.signature(getattr(kind, method)).parameters) == list(expected)


def test_importing_the_sinks_imports_no_tracker():
    code = """if True:
        import json, sys
        from intensive_callbacks.sinks import WandbSink, sinks_of
        sinks_of([object()])
        print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
    """
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    heavy = {"fvcore", "lightning", "lightning_fabric", "mlflow", "numpy", "pandas", "PIL", "pytorch_lightning", "rich"}
    heavy |= {"tensorboard", "tensorboardX", "torch", "torchmetrics", "transformers", "vl_convert", "wandb"}
    assert not heavy & set(json.loads(out))
