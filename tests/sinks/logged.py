"""What a run hands to its sinks, with a table whose figures are known by hand."""

import math

from intensive_callbacks import BenchmarkTable
from intensive_callbacks.benchmark.row import BenchmarkRow

P3, CES = "intensive/p3_score", "intensive/config_entropy"
OVERVIEW = [
    {"step": 0, P3: 1.0, CES: 0.5},
    {"step": 50, P3: 2.0, CES: math.nan},
    {"step": 100, P3: 3.0, CES: 0.7},
]
POINTS = [(P3, 0, 1.0), (P3, 50, 2.0), (P3, 100, 3.0), (CES, 0, 0.5), (CES, 100, 0.7)]
HEATMAP = [{"step": 100, "loads": {"blocks.0": [3, 1], "blocks.1": [1, 1]}}]
CELLS = [("blocks.0", 0, 1.5), ("blocks.0", 1, 0.5), ("blocks.1", 0, 1.0), ("blocks.1", 1, 1.0)]
VERDICT = "collapse in blocks.0: 1.2 effective experts of 8"
ALARM = "step 100: collapse in blocks.0"


def table():
    """Two models; P3 of the first is 100 * 0.9 / 0.001 = 90,000 points per 1e9 parameters."""
    known = {"task": "digits", "protocol": "test split", "random_baseline": 0.1}
    ours = BenchmarkRow(
        model="tiny", source="this run", accuracy=0.9, total_params=2e6, active_params=1e6, measured={CES: 0.7}, **known
    )
    other = BenchmarkRow(
        model="large", source="a paper", accuracy=0.95, total_params=1e9, active_params=1e9, featured=False, **known
    )
    return BenchmarkTable([ours, other])


def log_all(sink):
    """Call every method once, as a run does."""
    sink.publish()
    sink.log_values({P3: 1.0, CES: math.nan}, 49)
    sink.log_values({P3: 2.0}, 99)
    sink.log_chart("overview", OVERVIEW[:1], final=False)
    sink.alert("routing/health", ALARM)
    sink.log_table("final_benchmark", table())
    sink.log_chart("overview", OVERVIEW)
    sink.log_chart("heatmap", HEATMAP)
    sink.set_summary("routing/health", VERDICT)
    sink.close()
