"""Models whose parameters are not what they seem: quantized, adapted, sharded."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from torch import nn

from footprint.flop_cases import D, causal_lm
from intensive_callbacks.footprint.parameters import count_parameters


@pytest.fixture(scope="module")
def dense():
    return causal_lm("Llama")()


@pytest.fixture(scope="module")
def sparse():
    return causal_lm("Olmoe", num_experts=8, num_experts_per_tok=2)()


def counts(model):
    count = count_parameters(model)
    return (
        count.total,
        count.active,
        count.active_without_input_embedding,
        count.active_without_embeddings,
        count.routed,
        count.router,
        count.embedding,
    )


def test_torchao_counts_logical_elements_and_packed_bytes(dense):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchao's own imports
        quantization = pytest.importorskip("torchao.quantization")
        quantized = copy.deepcopy(dense)
        quantization.quantize_(quantized, quantization.Int8WeightOnlyConfig())
    assert counts(quantized) == counts(dense)
    matrices = [module for module in dense.modules() if isinstance(module, nn.Linear)]
    # One byte for what took four; a scale of four bytes and a zero point of one for each row.
    saved = sum(3 * module.weight.numel() - 5 * module.out_features for module in matrices)
    assert count_parameters(quantized).num_bytes == count_parameters(dense).num_bytes - saved


def test_packed_int8_layers_count_their_packed_weights():
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4, bias=False), nn.LayerNorm(4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.ao is about to move to torchao
        packed = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    count = count_parameters(packed)
    assert count.total == count.active == 8 * 16 + 16 + 16 * 4 + 8
    assert count.num_bytes == 8 * 16 + 16 * 4 + 4 * (16 + 8)


def test_peft_adds_its_adapters_and_nothing_else(dense, sparse):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft's own imports
        peft = pytest.importorskip("peft")
        adapted = peft.get_peft_model(copy.deepcopy(dense), peft.LoraConfig(r=4, target_modules=["q_proj"]))
        adapted_sparse = peft.get_peft_model(copy.deepcopy(sparse), peft.LoraConfig(r=4, target_modules=["q_proj"]))
    adapters = 2 * (4 * D + D * 4)
    count, before = count_parameters(adapted), count_parameters(dense)
    assert (count.total, count.trainable) == (before.total + adapters, adapters)
    assert count.active_without_embeddings == before.active_without_embeddings + adapters
    count, before = count_parameters(adapted_sparse), count_parameters(sparse)
    assert (count.active, count.routed, count.router) == (before.active + adapters, before.routed, before.router)


def test_peft_on_the_experts_themselves_is_as_idle_as_they_are(sparse):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peft = pytest.importorskip("peft")
        names = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
        adapted = peft.get_peft_model(copy.deepcopy(sparse), peft.LoraConfig(r=4, target_parameters=names))
    count, before = count_parameters(adapted), count_parameters(sparse)
    added = count.total - before.total
    assert added == count.trainable
    assert count.active == before.active + added * 2 // 8


class Tail(nn.Module):
    """A table, a layer and a head."""

    def __init__(self):
        super().__init__()
        self.tokens, self.layer, self.head = nn.Embedding(10, 8), nn.Linear(8, 8), nn.Linear(8, 10, bias=False)

    def forward(self, ids):
        return self.head(self.layer(self.tokens(ids)))


def adapted(**config):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peft = pytest.importorskip("peft")
        return peft.get_peft_model(Tail(), peft.LoraConfig(r=2, target_modules=["layer"], **config)), peft


PLAIN, ADAPTER = 80 + 72 + 80, 2 * 8 + 8 * 2


def test_the_original_of_a_module_to_save_is_not_active():
    model, _ = adapted(modules_to_save=["head", "tokens"])
    count = count_parameters(model)
    assert (count.total, count.active) == (PLAIN + 160 + ADAPTER, PLAIN + ADAPTER)
    assert count.active_without_embeddings == 72 + ADAPTER
    assert count.num_bytes == 4 * count.total
    with model.disable_adapter():
        assert count_parameters(model).active == PLAIN


def test_only_the_adapter_in_use_is_active():
    model, peft = adapted()
    model.add_adapter("second", peft.LoraConfig(r=4, target_modules=["layer"]))
    assert count_parameters(model).active == PLAIN + ADAPTER
    model.set_adapter("second")
    count = count_parameters(model)
    assert (count.total, count.active) == (PLAIN + 3 * ADAPTER, PLAIN + 2 * ADAPTER)
    model.merge_adapter()
    assert count_parameters(model).active == PLAIN


def test_modules_and_parameters_on_two_paths_count_once():
    model = Tail()
    model.again, model.alias = model.layer, nn.Linear(8, 8, bias=False)
    model.alias.weight = model.layer.weight
    count = count_parameters(model)
    assert (count.total, count.active, count.num_bytes) == (PLAIN, PLAIN, 4 * PLAIN)


def sharded(rank, path, queue):
    import torch.distributed as dist
    from torch.distributed.fsdp import fully_shard

    dist.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=2)
    model = causal_lm("Olmoe", num_experts=8, num_experts_per_tok=2)()
    for layer in model.model.layers:
        fully_shard(layer)
    fully_shard(model)
    local = sum(parameter.to_local().numel() for parameter in model.parameters())
    queue.put((counts(model), count_parameters(model).num_bytes, local))
    dist.destroy_process_group()


@pytest.mark.slow
def test_fsdp2_counts_the_whole_model_on_every_rank(sparse, tmp_path):
    context = torch.multiprocessing.get_context("spawn")
    queue = context.Queue()
    processes = [context.Process(target=sharded, args=(rank, tmp_path / "store", queue)) for rank in range(2)]
    for process in processes:
        process.start()
    results = [queue.get(timeout=120) for _ in processes]
    for process in processes:
        process.join()
    for result, num_bytes, local in results:
        assert result == counts(sparse)
        assert num_bytes == count_parameters(sparse).num_bytes
        assert local < result[0]


def test_fsdp1_is_refused_with_advice(sparse):
    class FullyShardedDataParallel(nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = module

    with pytest.raises(ValueError, match="before it is wrapped"):
        count_parameters(FullyShardedDataParallel(sparse))
