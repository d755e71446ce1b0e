"""Rows whose values are known by hand."""

from intensive_callbacks.benchmark.row import BenchmarkRow

MOE = BenchmarkRow(
    model="sparse",
    task="MMLU",
    protocol="5-shot",
    source="by hand",
    accuracy=0.8,
    total_params=100e9,
    active_params=10e9,
    num_bytes=100e9,
    num_examples=1600,
    random_baseline=0.25,
)
DENSE = BenchmarkRow(
    model="dense",
    task="MMLU",
    protocol="5-shot",
    source="by hand",
    accuracy=0.9,
    total_params=50e9,
    active_params=50e9,
    num_bytes=100e9,
    random_baseline=0.25,
)
OURS = BenchmarkRow(
    model="ours",
    task="digits",
    protocol="test split",
    source="measured here",
    accuracy=0.95,
    total_params=2000,
    active_params=1000,
    num_bytes=8000,
    num_flops=4000,
    per="example",
    num_examples=400,
    random_baseline=0.1,
    measured={"intensive/config_entropy": 0.9, "intensive/p3_score": 95e6},
)
