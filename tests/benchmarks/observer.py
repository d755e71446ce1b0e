"""What the observer costs: training steps with it, without it, and with what people do today, side by side.

The observer counts at every step and samples probabilities at one in 50.

Run from the repository's root: ``python tests/benchmarks/observer.py --device cuda``. Every round runs each variant in
turn, so that what drifts drifts for all; printed are the median of the rounds and, as a ratio, the median and the
quartiles of each round's ratio to the plain step of the same round; beside it the ratio of the fastest tenths.
"""

from __future__ import annotations

import argparse
import copy
import functools
import os
import platform
import statistics
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # for losses that can be compared bit for bit
sys.path.insert(0, str(Path(__file__).parents[2]))

from intensive_callbacks import RouterObserver
from intensive_callbacks.routing.hooks import NUM_PROVEN, LayerHooks

EVERY_N_STEPS = 50
TINY = {"hidden": 128, "ffn": 64, "layers": 4, "heads": 4, "top_k": 2, "vocab": 512}
SHAPES = {  # OLMoE's: on a GPU 1.8e9 parameters, 16 layers of 64 experts; on a CPU steps of about 20 ms
    "cuda": {"hidden": 1024, "ffn": 512, "layers": 16, "heads": 16, "experts": 64, "top_k": 8, "vocab": 50304},
    "cpu": {**TINY, "experts": 8},
    "cpu, plain": {**TINY, "experts": 16},
}
BATCHES = {"cuda": (8, 1024), "cpu": (4, 48), "cpu, plain": (4, 128)}


class Block(nn.Module):
    """The torch-only design that is read by watching its forward: a Linear gate and a list of experts."""

    def __init__(self, hidden: int, ffn: int, experts: int, top_k: int) -> None:
        super().__init__()
        self.top_k = top_k
        self.gate = nn.Linear(hidden, experts, bias=False)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(hidden, ffn), nn.SiLU(), nn.Linear(ffn, hidden)) for _ in range(experts)
        )

    def forward(self, x):
        flat = x.reshape(-1, x.shape[-1])
        weights, ids = self.gate(flat).softmax(-1).topk(self.top_k, dim=-1)
        out = torch.zeros_like(flat)
        for number, expert in enumerate(self.experts):
            tokens, slots = torch.where(ids == number)
            out = out.index_add(0, tokens, expert(flat[tokens]) * weights[tokens, slots, None])
        return x + out.view_as(x)


class Plain(nn.Module):
    """A stack of such blocks that has the interface of a language model."""

    def __init__(self, shape: dict) -> None:
        super().__init__()
        self.embed = nn.Embedding(shape["vocab"], shape["hidden"])
        blocks = (
            Block(shape["hidden"], shape["ffn"], shape["experts"], shape["top_k"]) for _ in range(shape["layers"])
        )
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(shape["hidden"], shape["vocab"])

    def forward(self, input_ids, labels):
        logits = self.head(self.blocks(self.embed(input_ids)))
        return nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())


def olmoe(shape: dict, device: str) -> nn.Module:
    from transformers import OlmoeConfig, OlmoeForCausalLM

    config = OlmoeConfig(
        vocab_size=shape["vocab"],
        hidden_size=shape["hidden"],
        intermediate_size=shape["ffn"],
        num_hidden_layers=shape["layers"],
        num_attention_heads=shape["heads"],
        num_key_value_heads=shape["heads"],
        num_experts=shape["experts"],
        num_experts_per_tok=shape["top_k"],
        max_position_embeddings=4096,
        use_cache=False,
    )
    config._experts_implementation = "grouped_mm" if device == "cuda" else "eager"
    with torch.device(device):
        return OlmoeForCausalLM(config).to(torch.bfloat16 if device == "cuda" else torch.float32)


class Trainer:
    """Forward, backward and optimizer on one batch, again and again."""

    def __init__(self, model: nn.Module, setting: str, device: str) -> None:
        self.model, self.device = model, device
        generator = torch.Generator().manual_seed(0)
        self.ids = torch.randint(0, SHAPES[setting]["vocab"], BATCHES[setting], generator=generator).to(device)
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
        self.losses: list[torch.Tensor] = []

    def step(self, **kwargs) -> None:
        output = self.model(input_ids=self.ids, labels=self.ids, **kwargs)
        loss = output if isinstance(output, torch.Tensor) else output.loss
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.losses.append(loss.detach())

    def synchronize(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()


@contextmanager
def nothing(trainer):
    yield lambda _: trainer.step()


@contextmanager
def proven(trainer):
    """An observer after its first forwards, in which it compares what it reads with what the experts compute."""
    with RouterObserver(trainer.model) as watching:
        with torch.no_grad():
            for _ in range(NUM_PROVEN + 1):
                trainer.model(input_ids=trainer.ids)
        watching.reset()
        yield watching


@contextmanager
def observer(trainer):
    """Ids at every step; what needs probabilities at one step in 50."""
    with proven(trainer) as watching:

        def step(number):
            watching.sampling = (number + 1) % EVERY_N_STEPS == 0
            trainer.step()
            if watching.sampling:
                watching.reset()

        yield step
        if watching.failed:
            raise RuntimeError(f"a hook failed in {watching.failed}")


@contextmanager
def counting(trainer):
    """The observer between two logging steps: ids alone."""
    with proven(trainer) as watching:
        watching.sampling = False
        yield lambda _: trainer.step()


@contextmanager
def sampling(trainer):
    """The observer on the steps that feed a logged value."""
    with proven(trainer):
        yield lambda _: trainer.step()


@contextmanager
def router_logits(trainer):
    """What transformers offers."""
    yield lambda _: trainer.step(output_router_logits=True)


@contextmanager
def bincount(trainer):
    """What a hook usually does."""
    with hooked(trainer.model, count_by_bincount):
        yield lambda _: trainer.step()


@contextmanager
def scatter(trainer):
    """The least that a hook could do."""
    with hooked(trainer.model, count_by_scatter):
        yield lambda _: trainer.step()


@contextmanager
def hooked(model, count):
    handles = []
    for layer in RouterObserver(model).layers:
        counts = torch.zeros(layer.num_experts, dtype=torch.int64, device=next(layer.block.parameters()).device)
        (experts,) = layer.experts
        handles.append(experts.register_forward_pre_hook(functools.partial(count, counts)))
    yield
    for handle in handles:
        handle.remove()


def count_by_bincount(counts, _, args):
    counts += torch.bincount(args[1].flatten(), minlength=len(counts))


def count_by_scatter(counts, _, args):
    ids = args[1].flatten()
    counts.scatter_add_(0, ids, torch.ones_like(ids))


VARIANTS = {each.__name__: each for each in (nothing, counting, sampling, scatter, bincount, router_logits)}


def measure(trainer: Trainer, variants: list, rounds: int, steps: int) -> dict[str, list[float]]:
    """Seconds per step of each variant in each round."""
    seconds: dict[str, list[float]] = {variant.__name__: [] for variant in variants}
    for number in range(rounds + 1):
        # There and back again, so that none always comes after the same other.
        for variant in variants if number % 2 else reversed(variants):
            with variant(trainer) as step:
                step(0)  # the first forward with new hooks learns what the later ones know
                trainer.synchronize()
                begin = time.perf_counter()
                for index in range(steps):
                    step(index)
                trainer.synchronize()
                if number > 0:  # the first round warms up
                    seconds[variant.__name__].append((time.perf_counter() - begin) / steps)
            trainer.losses.clear()
    return seconds


def show(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def table(title: str, seconds: dict[str, list[float]]) -> str:
    plain = seconds["nothing"]
    rows = [
        f"**{title}**",
        "",
        "| hooks | ms per step | ratio | quartiles of the rounds | fastest tenth |",
        "|---" * 5 + "|",
    ]
    medians = {}
    for name, values in seconds.items():
        ratios = sorted(value / base for value, base in zip(values, plain, strict=True))
        medians[name] = statistics.median(ratios)
        lower, _, upper = statistics.quantiles(ratios, n=4)
        rows.append(
            f"| {name} | {1e3 * statistics.median(values):.2f} | {medians[name]:.4f} | {lower:.4f} to {upper:.4f} "
            f"| {_fast(values) / _fast(plain):.4f} |"
        )
    if "sampling" in medians:
        mixed = ((EVERY_N_STEPS - 1) * medians["counting"] + medians["sampling"]) / EVERY_N_STEPS
        rows.append(f"| one step in {EVERY_N_STEPS} sampled, from the two above | | {mixed:.4f} | | |")
    return "\n".join(rows)


def _fast(values: list[float]) -> float:
    """The slowest of the fastest tenth: what else a machine does only ever makes a step longer."""
    return statistics.quantiles(values, n=10)[0]


@contextmanager
def no_synchronization(device: str):
    """Any wait for the device inside our hooks raises, once the reading is proven."""
    names = ("_enter", "_reach_experts", "_leave", "_see_call") if device == "cuda" else ()
    originals = {name: getattr(LayerHooks, name) for name in names}

    def guarded(original):
        def call(hooks, *args, **kwargs):
            if hooks._to_prove[True] > 0 or hooks._proof is not None:
                return original(hooks, *args, **kwargs)
            before = torch.cuda.get_sync_debug_mode()
            torch.cuda.set_sync_debug_mode("error")
            try:
                return original(hooks, *args, **kwargs)
            finally:
                torch.cuda.set_sync_debug_mode(before)

        return call

    for name, original in originals.items():
        setattr(LayerHooks, name, guarded(original))
    yield
    for name, original in originals.items():
        setattr(LayerHooks, name, original)


def losses_of(trainer: Trainer, variant, state: dict, steps: int = 6) -> list[float]:
    trainer.model.load_state_dict(state)
    trainer.optimizer = torch.optim.AdamW(trainer.model.parameters(), lr=1e-3, fused=True)
    trainer.losses.clear()
    with variant(trainer) as step:
        for number in range(EVERY_N_STEPS - steps // 2, EVERY_N_STEPS + steps - steps // 2):
            step(number - 1)
    return [float(loss) for loss in trainer.losses]


def check(trainer: Trainer) -> str:
    """Bit-identical losses, no synchronization, sums that do not grow."""
    state = copy.deepcopy(trainer.model.state_dict())
    torch.use_deterministic_algorithms(True, warn_only=True)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):  # the fused ones add up in any order
        first, second = losses_of(trainer, nothing, state), losses_of(trainer, nothing, state)
        observed = losses_of(trainer, observer, state)
    torch.use_deterministic_algorithms(False)
    with no_synchronization(trainer.device):
        losses_of(trainer, observer, state)
    with RouterObserver(trainer.model) as watching:
        trainer.step()
        states = [tensor for sums in watching.statistics.values() for tensor in sums.states().values()]
        counted = sum(int(sums.states()["load"].sum()) for sums in watching.statistics.values())
    layers = watching.layers
    expected = sum(layer.num_experts_per_token or 0 for layer in layers) * trainer.ids.numel()
    size = sum(tensor.numel() * tensor.element_size() for tensor in states)
    lines = [
        f"- losses of {len(first)} steps: two plain runs {'agree' if first == second else 'differ'} bit for bit",
        f"- the observed run {'agrees' if observed == first else f'differs: {observed} for {first}'}",
        f"- no synchronization inside the hooks: {'any would raise' if trainer.device == 'cuda' else 'no device'}",
        f"- {len(layers)} layers found; {counted} selections counted, {expected} made",
        f"- the sums take {size} bytes",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    # Short blocks in turn, many times: a machine that drifts by percents drifts under all of them.
    parser.add_argument("--rounds", type=int, default=40, help="at least 2")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--only", nargs="+", choices=list(VARIANTS), default=list(VARIANTS), help="which hooks")
    options = parser.parse_args()
    device = options.device
    torch.manual_seed(0)
    name = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine()
    show(f"torch {torch.__version__}, {name}, {torch.get_num_threads()} threads")
    trainer = Trainer(olmoe(SHAPES[device], device), device, device)
    num_params = sum(p.numel() for p in trainer.model.parameters())
    title = f"transformers' OLMoE, {num_params / 1e9:.4f}e9 parameters, batches of {BATCHES[device]}"
    variants = [VARIANTS[each] for each in options.only]
    show(f"\n{table(title, measure(trainer, variants, options.rounds, options.steps))}\n")
    show(check(trainer))
    if device == "cpu":
        setting = "cpu, plain"
        trainer = Trainer(Plain(SHAPES[setting]), setting, device)
        title = f"a Linear gate and a list of experts, batches of {BATCHES[setting]}, read by watching its forward"
        ours = [each for each in variants if each in (nothing, counting, sampling)]
        show(f"\n{table(title, measure(trainer, ours, options.rounds, options.steps))}\n")
        show(check(trainer))


if __name__ == "__main__":
    main()
