"""The observer counts once, changes nothing and leaves nothing behind, whatever is done to the model."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import tracemalloc
import warnings

import pytest
import torch
import torch._dynamo.testing
from torch import nn
from torch.utils.checkpoint import checkpoint

from intensive_callbacks import RouterObserver
from intensive_callbacks.metrics import MaxViolation
from intensive_callbacks.routing.readers import register_router_reader
from routing.designs import DESIGNS, D, E, Fused, Hashed, K, LinearGate, Megablocks, Torchtitan


class Tower(nn.Module):
    """Two layers, checkpointed or compiled as a test asks."""

    def __init__(self, design=LinearGate):
        super().__init__()
        self.blocks = nn.ModuleList(design() for _ in range(2))
        self.reentrant = None

    def forward(self, x):
        for block in self.blocks:
            x = x + (
                block(x).view_as(x) if self.reentrant is None else checkpoint(block, x, use_reentrant=self.reentrant)
            )
        return x


class Einsum(nn.Module):
    """A design without data-dependent shapes, so that it compiles to one graph."""

    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(D, E)
        self.experts = nn.ModuleList(nn.Linear(D, D) for _ in range(E))

    def forward(self, x):
        weights, ids = self.gate(x).softmax(-1).topk(K)
        dense = torch.zeros_like(self.gate(x)).scatter(-1, ids, weights)
        return sum(dense[..., e, None] * expert(x) for e, expert in enumerate(self.experts))


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)
    torch._dynamo.reset()


def states_of(observer):
    return {name: {k: v.clone() for k, v in s.states().items()} for name, s in observer.statistics.items()}


def truth(model, *inputs):
    """The sums of one plain forward."""
    with RouterObserver(model) as observer:
        model(*inputs)
    return states_of(observer)


def assert_same(left, right):
    assert left.keys() == right.keys()
    for name in left:
        for key in left[name]:
            torch.testing.assert_close(
                left[name][key], right[name][key], rtol=1e-5, atol=1e-6, msg=lambda m, key=key: f"{key}: {m}"
            )


def brute_force(samples):
    """Every sum in float64, token by token."""
    sums = dict.fromkeys(("entropy", "log_partition", "z", "confidence", "margin"), 0.0)
    sums |= {"load": [0] * E, "probability": [0.0] * E, "importance": [0.0] * E, "num_tokens": 0, "num_dropped": 0}
    for sample in samples:
        for t in range(sample.num_tokens):
            if sample.mask is not None and not sample.mask[t]:
                continue
            logits = sample.logits[t].double()
            p = (logits.exp() / logits.exp().sum()).tolist()
            sums["num_tokens"] += 1
            sums["entropy"] -= sum(x * torch.tensor(x).log().item() for x in p if x > 0)
            sums["log_partition"] += logits.exp().sum().log().item()
            sums["z"] += logits.exp().sum().log().item() ** 2
            greatest, second = sorted(p, reverse=True)[:2]
            sums["margin"] += greatest - second
            sums["probability"] = [a + b for a, b in zip(sums["probability"], p, strict=True)]
            for slot, e in enumerate(sample.expert_ids[t].tolist()):
                if e < 0:
                    sums["num_dropped"] += 1
                else:
                    sums["load"][e] += 1
                    sums["confidence"] += p[e]
                    if sample.weights is not None:
                        sums["importance"][e] += sample.weights[t, slot].item()
    return sums


@pytest.mark.parametrize("design", [LinearGate, Megablocks])
@pytest.mark.parametrize("masked", [False, True])
def test_sums_are_those_of_a_brute_force(design, masked):
    model, samples = Tower(design), []
    with RouterObserver(model, on_sample=samples.append) as observer:
        observer.mask = torch.tensor([[True] * 3 + [False] * 2] * 4) if masked else None
        for _ in range(3):
            model(torch.randn(4, 5, D))
    for name, statistics in observer.statistics.items():
        states = statistics.states()
        for key, value in brute_force([s for s in samples if s.layer == name]).items():
            expected = torch.tensor(value, dtype=torch.float64)
            torch.testing.assert_close(states[key].double(), expected, rtol=1e-5, atol=1e-6, msg=lambda m, k=key: k + m)


def test_sampling_off_counts_only():
    model = Tower()
    with RouterObserver(model) as observer:
        observer.sampling = False
        model(torch.randn(4, 5, D))
    states = observer.statistics["blocks.0"].states()
    assert int(states["load"].sum()) == 20 * K
    assert int(states["num_tokens"]) == 20
    assert not any(states[name].any() for name in ("probability", "entropy", "z", "num_logits", "num_probabilities"))


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_counts_once(reentrant):
    model, x = Tower(), torch.randn(4, 5, D, requires_grad=True)
    expected = truth(model, x)
    model.reentrant = reentrant
    with RouterObserver(model) as observer:
        model(x).sum().backward()
    assert_same(states_of(observer), expected)


def test_accumulation_and_evaluation_add_up():
    model = Tower().train()
    first, second = torch.randn(4, 5, D), torch.randn(2, 5, D)
    parts = [truth(model, first), truth(model, second)]
    with RouterObserver(model) as observer:
        model(first).sum().backward()
        model.eval()
        with torch.inference_mode():
            model(second)
    total = {name: {k: parts[0][name][k] + parts[1][name][k] for k in parts[0][name]} for name in parts[0]}
    assert_same(states_of(observer), total)


def test_autocast_does_not_change_what_is_counted():
    model, samples = Tower(Torchtitan), []
    with RouterObserver(model, on_sample=samples.append) as observer, torch.autocast("cpu", dtype=torch.bfloat16):
        model(torch.randn(4, 5, D))
    for sample, block in zip(samples, model.blocks, strict=True):
        assert {(t, int(e)) for t, ids in enumerate(sample.expert_ids) for e in ids} == block.pairs
    assert observer.statistics["blocks.0"].states()["z"].dtype == torch.float64


def test_statistics_made_or_reset_in_inference_mode_still_count():
    model = Tower()
    with torch.inference_mode():
        observer = RouterObserver(model).attach()
        model(torch.randn(1, 5, D))
        observer.reset()
    model(torch.randn(1, 5, D)).sum().backward()
    observer.detach()
    assert int(observer.statistics["blocks.0"].states()["num_tokens"]) == 5


def test_read_and_restore_in_place():
    model = Tower()
    with RouterObserver(model) as observer:
        model(torch.randn(4, 5, D))
        tensors = observer.statistics["blocks.0"].states()
        kept = observer.read()
        observer.reset()
        with torch.inference_mode():
            model(torch.randn(1, 5, D))
        assert int(observer.statistics["blocks.0"].states()["num_tokens"]) == 5
        observer.restore(kept)
    assert torch.equal(observer.read().packed(), kept.packed())
    assert int(tensors["num_tokens"]) == 20


def test_training_is_bit_for_bit_the_same():
    def train(observed):
        torch.manual_seed(3)
        model = Tower(DESIGNS[4])  # noisy: it draws random numbers
        optimizer = torch.optim.Adam(model.parameters())
        observer = RouterObserver(model)
        if observed:
            observer.attach()
        losses = []
        for _ in range(4):
            loss = model(torch.randn(4, 5, D)).square().mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        observer.detach()
        return losses, list(model.parameters()), torch.get_rng_state()

    plain, watched = train(observed=False), train(observed=True)
    assert plain[0] == watched[0]
    assert all(torch.equal(a, b) for a, b in zip(plain[1], watched[1], strict=True))
    assert torch.equal(plain[2], watched[2])


def test_nothing_is_registered_and_nothing_left():
    model = Tower()
    before = list(model.state_dict()), len(list(model.named_buffers())), len(list(model.named_modules()))
    with RouterObserver(model):
        assert (list(model.state_dict()), len(list(model.named_buffers())), len(list(model.named_modules()))) == before
        model(torch.randn(1, 5, D))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_copies_and_pickles_do_not_count():
    model = Tower()
    with RouterObserver(model) as observer:
        copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
        file = io.BytesIO()
        torch.save(model, file)
        file.seek(0)
        copies.append(torch.load(file, weights_only=False))
        for other in copies:
            torch.testing.assert_close(other(torch.ones(1, 5, D)), copies[0](torch.ones(1, 5, D)))
        assert int(observer.statistics["blocks.0"].states()["num_tokens"]) == 0
        model(torch.ones(1, 5, D))
    assert int(observer.statistics["blocks.0"].states()["num_tokens"]) == 5
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    assert len(file.getvalue()) < size + 40_000


def test_an_exception_leaves_no_mode_and_counts_nothing():
    model = Tower()
    with RouterObserver(model) as observer:
        handle = model.blocks[1].experts[0].register_forward_pre_hook(lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            model(torch.randn(8, 5, D))
        handle.remove()
        assert torch._C._len_torch_function_stack() == 0
        assert int(observer.statistics["blocks.1"].states()["num_tokens"]) == 0
        model(torch.randn(1, 5, D))
    assert int(observer.statistics["blocks.1"].states()["num_tokens"]) == 5


@pytest.mark.parametrize("left", [False, True])
def test_padding_is_not_counted(left):
    transformers = pytest.importorskip("transformers")
    config = transformers.MixtralConfig(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_local_experts=4,
    )
    model = transformers.MixtralForCausalLM(config).eval()
    ids, length = torch.randint(0, 64, (1, 7)), 7
    expected = truth(model, ids)
    mask = torch.zeros(1, length + 4, dtype=torch.int64)
    padded = torch.zeros(1, length + 4, dtype=torch.int64)
    where = slice(4, None) if left else slice(0, length)
    mask[:, where], padded[:, where] = 1, ids
    with RouterObserver(nn.ModuleDict({"wrapped": model})) as observer:
        positions = (mask.cumsum(-1) - 1).clamp_min(0)
        model(padded, attention_mask=mask, position_ids=positions)
    states = {name.removeprefix("wrapped."): states for name, states in states_of(observer).items()}
    for name, values in expected.items():
        for key, value in values.items():
            torch.testing.assert_close(states[name][key], value, rtol=1e-4, atol=1e-5)


def test_mask_covers_the_last_columns_when_there_is_a_cache():
    transformers = pytest.importorskip("transformers")
    config = transformers.MixtralConfig(
        vocab_size=64, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, num_local_experts=4, eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    model = transformers.MixtralForCausalLM(config).eval()
    mask = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])
    with RouterObserver(model) as observer:
        model.generate(torch.randint(1, 64, (2, 4)), attention_mask=mask, max_new_tokens=3, do_sample=False)
    # Six real tokens of the prompts, then one each in two further steps.
    assert int(observer.statistics["model.layers.0.mlp"].states()["num_tokens"]) == 6 + 2 * 2


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated")  # inductor's own imports
@pytest.mark.parametrize("backend", ["eager", "aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiled_attached_before(backend):
    model, x = Tower(Einsum), torch.randn(4, 5, D)
    expected = truth(model, x)
    counter = torch._dynamo.testing.CompileCounterWithBackend(backend)
    with RouterObserver(model) as observer:
        compiled = torch.compile(model, backend=counter, fullgraph=True)
        compiled(x)
        assert_same(states_of(observer), expected)
        assert counter.frame_count == 1
        for step in range(6):
            observer.sampling = step % 2 == 0
            compiled(x).sum().backward()
        assert counter.frame_count <= 3  # one graph that samples, one that counts
        loads = observer.statistics["blocks.0"].states()["load"]
        assert torch.equal(loads, 7 * expected["blocks.0"]["load"])
    seen = loads.clone()
    compiled(x)
    assert torch.equal(loads, seen)


# torch.compile of a module with hooks looks at .grad of what it is called with
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("around", ["checkpoint in compile", "compile in checkpoint"])
def test_compiled_and_checkpointed_counts_once(around):
    model, x = Tower(Einsum), torch.randn(4, 5, D, requires_grad=True)
    expected = truth(model, x)
    model.reentrant = False
    with RouterObserver(model) as observer:
        if around == "checkpoint in compile":
            run = torch.compile(model, backend="aot_eager", fullgraph=True)
        else:
            run = model
            for block in model.blocks:
                block.compile(backend="aot_eager", fullgraph=True)
        for _ in range(3):
            loss = run(x).sum()
            observer.in_backward = True
            loss.backward()
            observer.in_backward = False
    for name, states in states_of(observer).items():
        assert torch.equal(states["load"], 3 * expected[name]["load"])
        assert int(states["num_probabilities"]) == 60


def test_attached_after_compilation_warns():
    model, x = Tower(Einsum), torch.randn(4, 5, D)
    compiled = torch.compile(model, backend="eager")
    compiled(x)
    observer = RouterObserver(model).attach()
    compiled(x)
    counted = int(observer.statistics["blocks.0"].states()["num_tokens"])
    if counted:
        assert counted == 20
    else:
        with pytest.warns(UserWarning, match="never fired"):
            observer.warn_about_unobserved_layers()
    observer.detach()


def test_a_reader_by_pattern():
    class Odd(nn.Module):
        """Returns ids in a way that nothing could guess."""

        num_experts = 5

        def forward(self, x):
            return {"packed": (x.abs().sum(-1) * 10).long() % 5}

    model = nn.ModuleDict({"a": Odd(), "b": Odd()})

    def read(inputs, output):
        assert inputs[0].shape == (3, D)
        return {"expert_ids": output["packed"][:, None]}

    with RouterObserver(model, routers={"[ab]": read}) as observer:
        ids = model["a"](torch.randn(3, D))["packed"]
        model["b"](torch.randn(3, D))
    assert [layer.name for layer in observer.layers] == ["a", "b"]
    assert observer.statistics["a"].states()["load"].tolist() == torch.bincount(ids, minlength=5).tolist()


def test_a_registered_reader():
    class Own(nn.Linear):
        def forward(self, x):
            return super().forward(x).argmin(-1)

    register_router_reader(Own, lambda inputs, output: {"expert_ids": output[:, None]})
    model = nn.Sequential(Own(D, E))
    with RouterObserver(model) as observer:
        ids = model(torch.randn(9, D))
    assert observer.statistics["0"].states()["load"].tolist() == torch.bincount(ids, minlength=E).tolist()


def test_a_pattern_restricts_and_an_unknown_one_raises():
    model = Tower()
    assert [layer.name for layer in RouterObserver(model, routers="blocks.1").layers] == ["blocks.1"]
    assert [layer.name for layer in RouterObserver(model, routers="*.gate").layers] == ["blocks.0", "blocks.1"]
    assert RouterObserver(model, routers=None).layers == []
    with pytest.raises(ValueError, match="no router matches"):
        RouterObserver(model, routers="nothing.*")
    with pytest.raises(ValueError, match="no module matches"):
        RouterObserver(model, routers={"nothing.*": print})


def test_an_unreadable_layer_warns():
    class Opaque(nn.Module):
        def __init__(self):
            super().__init__()
            self.experts = nn.ModuleList(nn.Linear(D, D) for _ in range(E))

        def forward(self, x):
            return x @ self.experts[0].weight

    model = nn.Sequential(Opaque())
    observer = RouterObserver(model).attach()
    model(torch.randn(3, D))
    with pytest.warns(UserWarning, match="could not be read"):
        observer.detach()


def test_a_layer_that_never_runs_warns():
    model = Tower()
    observer = RouterObserver(model).attach()
    model.blocks[0](torch.randn(3, D))
    with pytest.warns(UserWarning, match="blocks.1 never fired"):
        observer.detach()


def test_a_failing_reader_warns_once_and_training_goes_on():
    model = Tower()
    observer = RouterObserver(model, routers={"blocks.0.gate": lambda *_: {"expert_ids": torch.zeros(3)}}).attach()
    with pytest.warns(RuntimeWarning, match=r"the routing of layer 'blocks.0.gate' failed and is switched off"):
        model(torch.randn(4, 5, D))
    assert observer.failed == ["blocks.0.gate"]
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(torch.randn(4, 5, D)).sum().backward()
        observer.detach()


def test_states_feed_the_metrics_with_a_dimension_of_layers():
    model = Tower()
    with RouterObserver(model) as observer:
        model(torch.randn(40, D))
    stacked = torch.stack([statistics.states()["load"] for statistics in observer.statistics.values()])
    metric = MaxViolation(num_experts=E)
    metric.merge_state({"load": stacked})
    expected = [max(load) / (sum(load) / E) - 1 for load in stacked.tolist()]
    torch.testing.assert_close(metric.compute(), torch.tensor(expected))


def test_fused_and_hashed_layers_have_no_module_for_a_router():
    model = nn.ModuleDict({"fused": Fused(), "hashed": Hashed()})
    assert {layer.name: layer.router for layer in RouterObserver(model).layers} == {"fused": None, "hashed": None}


def test_memory_is_that_of_the_sums():
    layers = nn.ModuleList(nn.ModuleDict({"gate": nn.Linear(1, 256), "experts": nn.ModuleList(nn.Linear(1, 1) for _ in range(256))}) for _ in range(61))  # fmt: skip # noqa: E501
    observer = RouterObserver(layers)
    tensors = [t for s in observer.statistics.values() for t in s.states().values()]
    assert len(observer.layers) == 61
    # One storage has both the loads and what was dropped. 32 MB are promised; the sums take a thirtieth.
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    assert sum(storages.values()) < 1_000_000


@pytest.mark.slow
@pytest.mark.parametrize("design", [LinearGate, Megablocks])  # watched, and read from the experts' arguments
def test_memory_is_constant_over_10_000_steps(design):
    """As a run does it: ids at every step, probabilities at one in 50, whose sums are read and set to zero then."""
    model = nn.Sequential(design())
    parameters = list(model.parameters())
    x = torch.randn(2, 5, D)
    bytes_at, tensors_at, logged = {}, {}, []
    with RouterObserver(model) as observer:
        tracemalloc.start()
        for step in range(1, 10_001):
            observer.sampling = step % 50 == 0
            out = model(x)
            if step % 50 == 0:
                torch.autograd.grad(out.sum(), parameters, allow_unused=True)
                logged.append(int(observer.read().by_layer()["0"]["load"].sum()))
                observer.reset()
            del out
            model[0].pairs.clear()
            if step in (1_000, 10_000):
                gc.collect()
                tensors_at[step] = sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())
                bytes_at[step] = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
    assert logged == [50 * 10 * K] * 200
    assert tensors_at[10_000] <= tensors_at[1_000]
    # The interpreter's free lists fill up for a while; the smallest object kept at each step would be 500 kB.
    assert bytes_at[10_000] - bytes_at[1_000] < 100_000


def test_nothing_is_kept_between_forwards():
    model = Tower()
    with RouterObserver(model) as observer:
        sums = [state for statistics in observer.statistics.values() for state in statistics.states().values()]
        for _ in range(200):
            model(torch.randn(2, 5, D)).sum().backward()
        later = [state for statistics in observer.statistics.values() for state in statistics.states().values()]
        assert [state.data_ptr() for state in sums] == [state.data_ptr() for state in later]
        assert not any(
            isinstance(v, torch.Tensor) for hooks in observer._hooks.values() for v in vars(hooks.decision).values()
        )
    assert int(observer.statistics["blocks.0"].states()["num_tokens"]) == 2000
