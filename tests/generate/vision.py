"""Top-1 accuracy on ImageNet-1k and cost of image models, from timm's published results."""

from __future__ import annotations

import csv
import io
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from generate.sources import SOURCES

if TYPE_CHECKING:
    from pathlib import Path

TASK, PROTOCOL = "ImageNet-1k top-1", "validation set, single crop at the model's own resolution, timm"
# All models of these families, and single ones that people compare with, each at every resolution that timm timed.
FAMILIES = ("convnextv2_", "eva02_", "efficientvit_", "mobilenetv4_", "vit_so400m_", "hiera_")
MODELS = {
    "resnet18.tv_in1k",
    "resnet50.tv_in1k",
    "resnet50.a1_in1k",
    "resnet101.tv_in1k",
    "resnet152.tv_in1k",
    "mobilenetv3_large_100.ra_in1k",
    "mobilenetv2_100.ra_in1k",
    "efficientnet_b0.ra_in1k",
    "efficientnet_b4.ra2_in1k",
    "tf_efficientnet_b7.ns_jft_in1k",
    "vit_tiny_patch16_224.augreg_in21k_ft_in1k",
    "vit_small_patch16_224.augreg_in21k_ft_in1k",
    "vit_base_patch16_224.augreg_in21k_ft_in1k",
    "vit_large_patch16_224.augreg_in21k_ft_in1k",
    "vit_huge_patch14_clip_224.laion2b_ft_in12k_in1k",
    "deit_tiny_patch16_224.fb_in1k",
    "deit_small_patch16_224.fb_in1k",
    "deit_base_patch16_224.fb_in1k",
    "swin_tiny_patch4_window7_224.ms_in1k",
    "swin_base_patch4_window7_224.ms_in1k",
    "convnext_tiny.fb_in1k",
    "convnext_base.fb_in1k",
    "convnext_large.fb_in22k_ft_in1k",
    "densenet121.tv_in1k",
    "vgg16.tv_in1k",
    "regnety_032.ra_in1k",
}
FEATURED = {
    "resnet50.a1_in1k",
    "mobilenetv3_large_100.ra_in1k",
    "efficientnet_b0.ra_in1k",
    "vit_base_patch16_224.augreg_in21k_ft_in1k",
    "convnext_base.fb_in1k",
}
LEAST_GMACS = Decimal("0.19")  # printed in hundredths: below, the rounding is more than 3 %


def rows(cache: Path) -> list[dict[str, Any]]:
    """One row per model and resolution; of several, all but the smallest are named with theirs."""
    results, benchmark = SOURCES["timm-results"], SOURCES["timm-benchmark"]
    timed = {
        (cells["model"], cells["infer_img_size"]): cells
        for cells in csv.DictReader(io.StringIO(benchmark.text(cache)))
        if cells["infer_gmacs"]
    }
    scored = [
        cells
        for cells in csv.DictReader(io.StringIO(results.text(cache)))
        if cells["model"] in MODELS or cells["model"].startswith(FAMILIES)
    ]
    found = []
    named: set[str] = set()
    for cells in sorted(scored, key=lambda cells: (cells["model"], int(cells["img_size"]))):
        cost = timed.get((cells["model"].partition(".")[0], cells["img_size"]))
        if cost is None or not _comparable(cells, cost) or (cells["model"] in MODELS and cells["model"] in named):
            continue
        name = cells["model"] if cells["model"] not in named else f"{cells['model']} ({cells['img_size']} px)"
        named.add(cells["model"])
        found.append(
            {
                "model": name,
                "task": TASK,
                "protocol": PROTOCOL,
                "printed": cells["top1"],
                "printed_params": cells["param_count"],
                "printed_gmacs": cost["infer_gmacs"],
                "samples_per_second_rtx4090": cost["infer_samples_per_sec"],
                "image_size": cells["img_size"],
                "total_params": int(Decimal(cells["param_count"]) * 10**6),
                "active_params": int(Decimal(cells["param_count"]) * 10**6),
                "num_flops": int(2 * Decimal(cost["infer_gmacs"]) * 10**9),
                "bytes_per_param": 4,
                "per": "example",
                "num_examples": 50000,
                "random_baseline": "0.001",
                "featured": "yes" if name in FEATURED else "no",
                "source": f"{results.title}, {cells['img_size']} px; MACs: {benchmark.cited}",
                "url": results.url,
            }
        )
    return sorted(found, key=lambda row: Decimal(row["printed"]), reverse=True)


def _comparable(scored: dict[str, str], timed: dict[str, str]) -> bool:
    """Whether the model that was timed is the one that was scored, not one with another head, and its cost is exact."""
    scored_params, timed_params = Decimal(scored["param_count"]), Decimal(timed["param_count"])
    return Decimal(timed["infer_gmacs"]) >= LEAST_GMACS and abs(scored_params / timed_params - 1) < Decimal("0.01")
