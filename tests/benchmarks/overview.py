"""The cost of the overview: per logging step of a short and a long run, and as a page of five long runs.

    python tests/benchmarks/overview.py

Both runs log the same 25 values by the same calls to offline W&B, side by side in one process; the difference between
them is the length. Chromium is used if it is installed.
"""

from __future__ import annotations

import math
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from intensive_callbacks.dashboards import RunRecord, charts_of, overview_is_due, page
from intensive_callbacks.monitor.history import History

NUM_METRICS = 25


def values(step):
    return {f"routing/m{n:02}": 1.5 + math.sin(n + step / 900) for n in range(NUM_METRICS)}


def seconds_per_step(num_steps):
    """The time that history and overview take per logging step, including the final one."""
    import wandb

    from intensive_callbacks import WandbSink

    run = wandb.init(project="benchmark")
    sink, history, spent = WandbSink(run), History(), 0.0
    for step in range(num_steps):
        row = values(step)
        begun = time.perf_counter()
        history.append(step, row)
        if overview_is_due(step + 1):
            sink.log_chart("overview", history.rows(), final=False)
        spent += time.perf_counter() - begun
    begun = time.perf_counter()
    sink.log_chart("overview", history.rows())
    spent += time.perf_counter() - begun
    run.finish()
    return spent / num_steps


def page_of_five():
    rows = [{"step": step, **values(step)} for step in range(10_000)]
    begun = time.perf_counter()
    text = page(charts_of([RunRecord(f"run {n}", rows) for n in range(5)]), "five runs")
    return text, time.perf_counter() - begun


def seconds_to_open(path):
    """From the request to the last chart drawn, in headless Chromium."""
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    options = ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    with Chrome(options=options, service=ChromeService(shutil.which("chromedriver"))) as chrome:
        times = []
        for _ in range(3):
            begun = time.perf_counter()
            chrome.get(path.as_uri())
            chrome.execute_async_script("const done = arguments[0]; window.views.then(() => done())")
            times.append(time.perf_counter() - begun)
    return statistics.median(times)


def main():
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {f"WANDB_{name}_DIR": f"{folder}/{name}" for name in ("CACHE", "DATA", "CONFIG", "ARTIFACT")}
        os.environ |= {"WANDB_DIR": folder, "WANDB_MODE": "offline", "WANDB_SILENT": "true"}
        lengths = (100, 100_000)
        rounds = [[seconds_per_step(length) for length in lengths] for _ in range(3)]
        for length, times in zip(lengths, zip(*rounds, strict=True), strict=True):
            spread = f"{1e6 * min(times):.0f} to {1e6 * max(times):.0f}"
            print(f"{length:7,} logging steps: {1e6 * statistics.median(times):.0f} us each ({spread})")
        text, seconds = page_of_five()
        path = Path(folder) / "page.html"
        path.write_text(text, encoding="utf-8")
        print(
            f"page of 5 runs x {NUM_METRICS} metrics x 10,000 steps: {len(text) / 1e6:.2f} MB, made in {seconds:.1f} s"
        )
        if shutil.which("chromium") and shutil.which("chromedriver"):
            print(f"opened in {seconds_to_open(path):.2f} s")


if __name__ == "__main__":
    sys.exit(main())
