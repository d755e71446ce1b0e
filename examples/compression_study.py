"""Compress one model in six ways and see what intelligence density says about each, and what it leaves out.

Trains a classifier of scikit-learn's digits, then measures its fp32, bf16, int8, pruned, distilled and 1-bit variants:
size on disk, accuracy with its error, latency, density. Takes less than a minute on two cores.
"""

import copy
import itertools
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from rich.console import Console
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import prune
from torch.utils.benchmark import Timer

from intensive_callbacks import BenchmarkTable
from intensive_callbacks.benchmark.compare import compare
from intensive_callbacks.benchmark.row import BenchmarkRow
from intensive_callbacks.dashboards.render import Chart, write
from intensive_callbacks.footprint.memory import size_on_disk
from intensive_callbacks.functional import intelligence_density

NUM_TRAIN = 1000


class Int8Linear(nn.Module):
    """Weights in 8 bits with a scale per row, unpacked at every call."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        scale = linear.weight.detach().abs().amax(1, keepdim=True) / 127
        self.register_buffer("scale", scale)
        self.register_buffer("packed", (linear.weight.detach() / scale).round().to(torch.int8))
        self.register_buffer("bias", linear.bias.detach())

    def forward(self, inputs: Tensor) -> Tensor:
        return F.linear(inputs, self.packed * self.scale, self.bias)


class OneBitLinear(nn.Module):
    """Signs of weights, eight to a byte, with a scale per row, unpacked at every call."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach()
        self.register_buffer("shifts", torch.arange(8, dtype=torch.uint8), persistent=False)
        bits = (weight >= 0).to(torch.uint8).reshape(len(weight), -1, 8)
        self.register_buffer("packed", (bits << self.shifts).sum(-1, dtype=torch.uint8))
        self.register_buffer("scale", weight.abs().mean(1, keepdim=True))
        self.register_buffer("bias", linear.bias.detach())

    def forward(self, inputs: Tensor) -> Tensor:
        bits = (self.packed[..., None] >> self.shifts) & 1
        return F.linear(inputs, (bits.flatten(1) * 2.0 - 1) * self.scale, self.bias)


class SignsInTraining(nn.Module):
    """The same weights while they are trained: the gradient passes through the sign unchanged (straight-through)."""

    def forward(self, weight: Tensor) -> Tensor:
        signs = torch.where(weight >= 0, 1.0, -1.0) * weight.abs().mean(1, keepdim=True)
        return weight + (signs - weight).detach()


class SparseLinear(nn.Module):
    """The remaining weights and their positions."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        sparse = linear.weight.detach().to_sparse_csr()
        self.shape = linear.weight.shape
        self.register_buffer("rows", sparse.crow_indices().int())
        self.register_buffer("columns", sparse.col_indices().int())
        self.register_buffer("packed", sparse.values())
        self.register_buffer("bias", linear.bias.detach())

    def forward(self, inputs: Tensor) -> Tensor:
        weight = torch.sparse_csr_tensor(self.rows, self.columns, self.packed, self.shape, check_invariants=False)
        return (weight @ inputs.T).T + self.bias


def classifier(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10))


def fit(model: nn.Module, images: Tensor, labels: Tensor, epochs: int = 40, teacher: nn.Module | None = None) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    model.train()
    for _ in range(epochs):
        for chosen in torch.randperm(len(images)).split(64):
            noisy = images[chosen] + 0.1 * torch.randn_like(images[chosen])
            logits = model(noisy)
            loss = F.cross_entropy(logits, labels[chosen])
            if teacher is not None:
                with torch.no_grad():
                    taught = (teacher(noisy) / 2).softmax(-1)
                loss = loss + 4 * F.kl_div((logits / 2).log_softmax(-1), taught, reduction="batchmean")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    model.eval()


def linears(model: nn.Module) -> list[nn.Linear]:
    return [module for module in model if isinstance(module, nn.Linear)]


def packed(model: nn.Sequential, layer: type[nn.Module], ends: type[nn.Module]) -> nn.Sequential:
    """The model with its linear layers packed; the first and the last, which are small and sensitive, as ``ends``."""
    *_, last = (place for place, module in enumerate(model) if isinstance(module, nn.Linear))
    return nn.Sequential(
        *(
            (ends if place in {0, last} else layer)(module) if isinstance(module, nn.Linear) else module
            for place, module in enumerate(model)
        )
    ).eval()


def variants(images: Tensor, labels: Tensor) -> dict[str, nn.Module]:
    model = classifier(256)
    fit(model, images, labels)
    pruned = copy.deepcopy(model)
    prune.global_unstructured([(m, "weight") for m in linears(pruned)], prune.L1Unstructured, amount=0.9)
    fit(pruned, images, labels, epochs=15)
    one_bit = copy.deepcopy(model)
    for module in linears(one_bit)[1:-1]:
        nn.utils.parametrize.register_parametrization(module, "weight", SignsInTraining())
    fit(one_bit, images, labels, epochs=30)
    student = classifier(32)
    fit(student, images, labels, epochs=60, teacher=model)
    return {
        "fp32": model,
        "bf16": copy.deepcopy(model).bfloat16(),
        "int8": packed(model, Int8Linear, Int8Linear),
        "pruned 90 %": packed(pruned, SparseLinear, SparseLinear),
        "distilled": student,
        "1-bit": packed(one_bit, OneBitLinear, Int8Linear),
    }


def predict(model: nn.Module, images: Tensor) -> Tensor:
    with torch.inference_mode():
        return model(images.to(dtype_of(model))).argmax(-1)


def dtype_of(model: nn.Module) -> torch.dtype:
    return next((parameter.dtype for parameter in model.parameters()), torch.float32)


def microseconds(model: nn.Module, images: Tensor) -> float:
    """Median time per image."""
    with torch.inference_mode():
        call = {"model": model, "images": images.to(dtype_of(model))}
        return 1e6 * Timer("model(images)", globals=call).blocked_autorange(min_run_time=0.3).median / len(images)


def num_weights(module: nn.Module) -> int:
    """Weights of a linear layer however it is stored; eight to a byte where they are bits."""
    stored = module.weight if isinstance(module, nn.Linear) else module.packed
    return stored.numel() * (8 if isinstance(module, OneBitLinear) else 1)


def measure(name: str, model: nn.Sequential, images: Tensor, labels: Tensor, out: Path) -> BenchmarkRow:
    """A row of the benchmark: size on disk, accuracy and latency of the variant."""
    file = out / f"{name.replace(' ', '_').replace('%', 'percent')}.safetensors"
    save_file({key: tensor.contiguous() for key, tensor in model.state_dict().items()}, file)
    right = predict(model, images) == labels
    noisy = predict(model, images + 0.5 * torch.randn(images.shape, generator=torch.Generator().manual_seed(1)))
    weights = sum(num_weights(layer) for layer in model if not isinstance(layer, nn.ReLU))
    return BenchmarkRow(
        model=name,
        task="digits",
        protocol=f"{len(labels)} images held out",
        source="this run",
        accuracy=right.double().mean().item(),
        total_params=weights,
        active_params=weights,
        num_bytes=size_on_disk(file),
        num_flops=2 * weights,
        per="example",
        num_examples=len(labels),
        random_baseline=0.1,
        correct=dict(enumerate(right.tolist())),
        measured={
            "µs per image, one at a time": microseconds(model, images[:1]),
            "µs per image, 256 at a time": microseconds(model, images[:256]),
            "accuracy under noise": (noisy == labels).double().mean().item(),
        },
    )


def density(row: BenchmarkRow) -> float:
    return intelligence_density(row.accuracy, row.num_bytes).item()


def recalls(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Of each digit, the share that is recognized."""
    right = (predict(model, images) == labels).double()
    return torch.stack([right[labels == digit].mean() for digit in range(10)])


def caveats(
    rows: dict[str, BenchmarkRow], models: dict[str, nn.Module], images: Tensor, labels: Tensor
) -> Iterator[str]:
    """What the density does not say, in figures of this study."""
    alone, together, noisy = rows["fp32"].measured
    densest = max(rows.values(), key=density)
    slowest = max(rows.values(), key=lambda row: row.measured[alone] / rows["fp32"].measured[alone] * density(row))
    slower, denser = slowest.measured[alone] / rows["fp32"].measured[alone], density(slowest) / density(rows["fp32"])
    unpacked = 4 * rows["fp32"].total_params
    recall = {name: recalls(model, images, labels) for name, model in models.items()}
    alike = [
        pair for pair in itertools.combinations(rows, 2) if abs(rows[pair[0]].accuracy - rows[pair[1]].accuracy) < 0.01
    ]
    one, other = max(alike, key=lambda pair: (recall[pair[0]] - recall[pair[1]]).abs().max())
    digit = int((recall[one] - recall[other]).abs().argmax())
    sturdiest = max(rows.values(), key=lambda row: row.measured[noisy])
    yield (
        f"Latency: {slowest.model} is {denser:.1f} times as dense as fp32 and takes {slower:.1f} times as long for one "
        f"image ({slowest.measured[alone]:.0f} against {rows['fp32'].measured[alone]:.0f} µs)."
    )
    yield (
        f"Bandwidth: 1-bit stores {rows['1-bit'].num_bytes / 1e3:.0f} kB, but without a kernel of its own it writes "
        f"and reads {unpacked / 1e3:.0f} kB of unpacked weights at each call; 256 images at a time it takes "
        f"{rows['1-bit'].measured[together]:.2f} µs per image, bf16 {rows['bf16'].measured[together]:.2f}."
    )
    yield (
        f"Errors are not alike: {one} and {other} are {100 * abs(rows[one].accuracy - rows[other].accuracy):.1f} "
        f"points apart, yet {recall[one][digit]:.1%} and {recall[other][digit]:.1%} of the {digit}s are recognized."
    )
    yield (
        f"A snapshot: {densest.model} is the densest; under noise {sturdiest.model} holds best, with "
        f"{sturdiest.measured[noisy]:.1%} against {densest.measured[noisy]:.1%}."
    )


if __name__ == "__main__":
    warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
    torch.manual_seed(0)
    out = Path(os.environ.get("STUDY_DIR", "compression_study"))
    out.mkdir(exist_ok=True)
    digits = load_digits()
    images, labels = torch.tensor(digits.data / 16).float(), torch.tensor(digits.target)
    order = torch.randperm(len(images))
    train, held_out = order[:NUM_TRAIN], order[NUM_TRAIN:]
    models = variants(images[train], labels[train])
    test = images[held_out], labels[held_out]
    rows = {name: measure(name, model, *test, out) for name, model in models.items()}

    table = BenchmarkTable(rows.values(), metrics=("ID", "MER", "P3"))
    Console(width=120).print(table)
    print("\nEach variant against fp32, on the same images:")
    for name in list(rows)[1:]:
        print(compare(rows[name], rows["fp32"], metrics=("ID",)))
    print("\nWhat the density leaves out:")
    for line in caveats(rows, models, *test):
        print("-", line)
    points = [dict(zip(table.columns, row, strict=True)) for row in table.rows()]
    chart = Chart("frontier", points, {"title": "Compression of one model", "cost": "bytes"})
    for form in ("png", "html"):
        print("frontier:", write(chart, out / f"frontier.{form}", "Compression of one model"))
