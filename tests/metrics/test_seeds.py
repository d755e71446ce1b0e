"""What the metrics of the founding documents do beside their value: errors, companions, warnings, refusals."""

import math
import warnings

import pytest
import torch
import torch.multiprocessing as mp
from sklearn.datasets import load_digits

import processes
from intensive_callbacks import functional
from intensive_callbacks.metrics import (
    CapabilityDensity,
    ChinchillaOptimalityIndex,
    ConfigurationEntropyScore,
    EffectiveCompressionRatio,
    GeneralizationEfficiency,
    IntelligenceDensity,
    MemoryEfficiencyRatio,
    PerformancePerFlop,
    PerformancePerParameter,
    QueryContentCoupling,
    RelevanceRealizationRate,
    SparsityAdjustedAccuracy,
)
from intensive_callbacks.monitor.selection import select_tap
from metrics.companions import companions


def test_an_undefined_value_is_explained_once():
    metric = QueryContentCoupling()
    metric.update(torch.tensor([1.0, 2.0, 3.0]), torch.full((3,), 576))
    with pytest.warns(UserWarning, match="QueryContentCoupling is undefined .* constant"):
        assert metric.compute().isnan()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert metric.compute().isnan()


def test_before_the_first_update_only_torchmetrics_warns():
    with pytest.warns(UserWarning, match="before the ``update``") as caught:
        assert IntelligenceDensity(num_bytes=1e9).compute().isnan()
    assert len(caught) == 1


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: PerformancePerParameter(num_params=0), "num_params must be a finite number above 0, got 0"),
        (lambda: PerformancePerFlop(num_flops=math.nan), "num_flops"),
        (lambda: MemoryEfficiencyRatio(num_bytes=-1), "num_bytes"),
        (lambda: PerformancePerParameter(1e9, chance_corrected=True), "random_baseline must be a fraction"),
        (lambda: IntelligenceDensity(num_bytes=0), "num_bytes"),
        (lambda: IntelligenceDensity(num_bytes=1e9, base=1), "base must not be 1"),
        (lambda: IntelligenceDensity(num_bytes=1e9, base=-2), "base"),
        (lambda: IntelligenceDensity(num_bytes=1e9, chance_corrected=True), "random_baseline"),
        (lambda: CapabilityDensity(num_params=math.inf), "num_params"),
        (lambda: RelevanceRealizationRate(0, 0, 0.1), "total_params"),
        (lambda: RelevanceRealizationRate(10, 11, 0.1), r"active_params must lie in \[0, total_params = 10\], got 11"),
        (lambda: RelevanceRealizationRate(10, 5, 0.0), "random_baseline"),
        (lambda: SparsityAdjustedAccuracy(0, 0), "total_params"),
        (lambda: ConfigurationEntropyScore(0), "num_experts"),
        (lambda: ChinchillaOptimalityIndex(0), "num_params"),
        (lambda: ChinchillaOptimalityIndex(1e9, tokens_per_param=0), "tokens_per_param"),
        (lambda: QueryContentCoupling(num_samples=0), "num_samples"),
        (lambda: GeneralizationEfficiency(num_samples=0), "num_samples"),
        (lambda: EffectiveCompressionRatio(-1), "num_params"),
        (lambda: EffectiveCompressionRatio(1e6, "neural"), "estimator must be one of predictive"),
        (lambda: EffectiveCompressionRatio(1e6, "ksg"), "num_features="),
    ],
)
def test_invalid_settings_raise(build, message):
    with pytest.raises(ValueError, match=message):
        build()


ACCURACY = [
    lambda: PerformancePerParameter(num_params=1e9),
    lambda: IntelligenceDensity(num_bytes=1e9),
    lambda: SparsityAdjustedAccuracy(total_params=10, active_params=3),
]


@pytest.mark.parametrize("build", ACCURACY)
def test_accuracy_in_percent_raises(build):
    metric = build()
    with pytest.raises(ValueError, match="got 85; divide percent by 100"):
        metric.update(85)
    with pytest.raises(ValueError, match="must not be negative"):
        metric.update(0.85, num_examples=-1)
    metric.update(torch.tensor(85.0))  # on a device it would have to wait to look
    with pytest.raises(ValueError, match="1 of the tensors given were not"):
        metric.compute()


def test_active_above_total_raises():
    metric = SparsityAdjustedAccuracy(total_params=10, active_params=3)
    with pytest.raises(ValueError, match="active_params must lie in"):
        metric.update(0.5, active_params=11)
    metric.update(0.5, active_params=torch.tensor(11.0))
    with pytest.raises(ValueError, match="active_params at most total_params"):
        metric.compute()


def test_measured_active_parameters_replace_those_of_the_design():
    metric = SparsityAdjustedAccuracy(total_params=100, active_params=50)
    metric.update(0.8, num_examples=30, active_params=20)
    metric.update(0.8, num_examples=10, active_params=torch.tensor(40))
    assert metric.compute() == pytest.approx(0.8 * 0.75)


def test_standard_error_by_hand():
    metric = PerformancePerParameter(num_params=2e9)
    metric.update(0.8, num_examples=400)
    assert metric.standard_error() == pytest.approx(50 * math.sqrt(0.8 * 0.2 / 400))
    density = IntelligenceDensity(num_bytes=2e9)
    density.update(0.8, num_examples=400)
    assert density.standard_error() == pytest.approx(0.5 / 0.2 * math.sqrt(0.8 * 0.2 / 400))
    coupling = QueryContentCoupling()
    coupling.update(torch.arange(5), torch.tensor([0, 2, 1, 4, 3]))
    assert coupling.standard_error() == pytest.approx((1 - 0.8**2) / math.sqrt(2))


def test_all_right_is_not_certain():
    metric = IntelligenceDensity(num_bytes=1e9)
    metric.update(1.0, num_examples=99)
    assert metric.compute() == pytest.approx(-math.log(0.5 / 100))
    assert 0 < metric.standard_error() < 3
    metric.update(1.0)  # nobody says of how many
    assert metric.compute() == math.inf
    assert metric.standard_error().isnan()
    # one error in n is worse than none
    one = functional.intelligence_density(98 / 99, 1e9)
    assert one < functional.intelligence_density(1.0, 1e9, num_examples=99)


def test_density_of_chance_is_nothing_in_excess():
    assert functional.intelligence_density(0.25, 1e9) > 0.28
    corrected = functional.intelligence_density(0.25, 1e9, chance_corrected=True, random_baseline=0.25)
    assert corrected == pytest.approx(0, abs=1e-12)


def test_capability_density_of_the_reference_is_about_one():
    published = {0.5e9: 0.3935, 1.8e9: 0.4671, 4e9: 0.5652, 7e9: 0.6197, 14e9: 0.6936, 32e9: 0.743, 72e9: 0.772}
    densities = [functional.capability_density(accuracy, size) for size, accuracy in published.items()]
    assert all(0.7 < density < 1.5 for density in densities)


def test_published_excess_losses():
    assert functional.chinchilla_excess_loss(175e9, 300e9) == pytest.approx(0.0162, abs=5e-5)
    assert functional.chinchilla_excess_loss(70e9, 2e12) == pytest.approx(0.0005, abs=5e-5)


def test_tokens_beyond_32_bits():
    metric = ChinchillaOptimalityIndex(num_params=1e9)
    for _ in range(3):
        metric.update(torch.tensor([2_000_000_000, 2_000_000_000], dtype=torch.int32))
    assert metric.compute() == pytest.approx(1e9 * 20 / 12e9)
    with pytest.raises(ValueError, match="must not be negative"):
        metric.update(-5)
    metric.update(torch.tensor(-5))
    with pytest.raises(ValueError, match="1 of the tensors given were"):
        metric.compute()


def test_the_pooled_correlation_can_contradict_every_image():
    metric = QueryContentCoupling()
    metric.update(torch.tensor([[0.0, 1, 2, 3], [10, 11, 12, 13]]), torch.tensor([[3.0, 0, 2, 1], [13, 10, 12, 11]]))
    assert metric.compute() > 0.9
    assert metric.per_image() == pytest.approx(-0.4)


def test_regret_counts_images_with_shares_only():
    metric = QueryContentCoupling()
    metric.update(torch.tensor([[3.0, 1.0], [-1.0, 1.0]]), torch.tensor([[200, 200], [200, 200]]))
    assert metric.regret() == pytest.approx(1 + 0.75 * math.log2(0.75) + 0.25 * math.log2(0.25))


def test_pairs_that_are_not_finite_are_dropped_and_counted():
    relevance, tokens = torch.tensor([0.0, 1, 2, math.nan, 4]), torch.tensor([1.0, 0, 2, 5, math.inf])
    metric = QueryContentCoupling().set_dtype(torch.float64)
    metric.update(relevance, tokens)
    assert metric.num_dropped == 2
    assert metric.compute() == functional.query_content_coupling(relevance[:3], tokens[:3])
    assert metric.rank_correlation() == pytest.approx(0.5)


def test_a_buffer_keeps_the_last_samples_and_no_more():
    metric = QueryContentCoupling(num_samples=100)
    for start in range(20, 1000, 30):
        values = torch.arange(start, start + 30, dtype=torch.float64)
        tokens = torch.where(values < 910, -values, values)
        assert metric.forward(values, tokens).abs() > 0
    assert metric.samples.shape == (100, 2)
    assert metric.rank_correlation() == pytest.approx(1)  # of those that came before 910 nothing is left
    metric.merge_state(metric.clone())
    assert metric.samples.shape == (100, 2)


def test_shapes_that_disagree_raise():
    with pytest.raises(ValueError, match="same shape"):
        QueryContentCoupling().update(torch.zeros(3), torch.zeros(4))
    with pytest.raises(ValueError, match="flatten the patches"):
        QueryContentCoupling().update(torch.zeros(3, 2, 2), torch.zeros(3, 2, 2))
    with pytest.raises(ValueError, match="must be pairs"):
        GeneralizationEfficiency().update(torch.tensor([1, 2]), torch.tensor([0.5]))
    with pytest.raises(ValueError, match="fraction"):
        GeneralizationEfficiency().update(100, 50.0)
    ecr = EffectiveCompressionRatio(1e6, num_classes=10)
    with pytest.raises(ValueError, match="11 classes, more than num_classes=10"):
        ecr.update(None, torch.zeros(4, 11))
    with pytest.raises(ValueError, match="labels must be integers"):
        ecr.update(None, torch.zeros(4, 10), torch.zeros(3, dtype=torch.long))
    with pytest.raises(ValueError, match="needs labels"):
        EffectiveCompressionRatio(1e6, "usable").update(None, torch.zeros(4, 10))
    copula = EffectiveCompressionRatio(1e6, "gaussian_copula", num_features=(3, 2), noise=0.0)
    with pytest.raises(ValueError, match=r"num_features=\(3, 2\) columns, got \(3, 3\)"):
        copula.update(torch.zeros(5, 3), torch.zeros(5, 3))
    with pytest.raises(ValueError, match="row by row"):
        copula.update(None, torch.zeros(5, 2))


def test_label_that_is_no_class_raises():
    ecr = EffectiveCompressionRatio(1e6)
    ecr.update(None, torch.zeros(4, 10), torch.tensor([0, 9, 10, 3]))
    with pytest.raises(ValueError, match="1 labels were not below the number of classes"):
        ecr.compute()


def test_rows_of_logits_that_are_not_finite_are_counted():
    ecr = EffectiveCompressionRatio(1e6)
    logits = torch.eye(4)
    logits[1, 2] = math.nan
    ecr.update(None, logits)
    assert ecr.num_dropped == 1


def test_a_model_of_one_parameter_has_no_ratio():
    ecr = EffectiveCompressionRatio(1)
    ecr.update(None, torch.eye(4))
    with pytest.warns(UserWarning, match="fewer than two parameters"):
        assert ecr.compute().isnan()


def test_samples_give_what_the_function_gives():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(600, 2, 3, generator=generator)
    y = x.flatten(1)[:, :2] + 0.5 * torch.randn(600, 2, generator=generator)
    for estimator in ("gaussian_copula", "gaussian", "seed"):
        ecr = EffectiveCompressionRatio(2**16, estimator, num_features=(6, 2), num_samples=500, noise=0.0)
        for inputs, outputs in zip(x.split(90), y.split(90), strict=True):
            ecr.update(inputs, outputs)
        expected = getattr(functional, f"{estimator.removesuffix('_information')}_information")(
            x.flatten(1)[100:], y[100:]
        )
        assert ecr.information() == pytest.approx(float(expected), rel=1e-6)
        assert ecr.compute() == pytest.approx(float(expected) / 16, rel=1e-6)


def test_an_id_that_is_no_expert_is_explained():
    metric = ConfigurationEntropyScore(num_experts=4)
    metric.update(torch.tensor([[0, 1], [2, 3]]))
    assert metric.compute() == 1
    for wrong in (4, 2**40, -2):
        metric.reset()
        metric.update(torch.tensor([[0, 1], [2, 3]]))
        metric.update(torch.tensor([[0, wrong]]))
        metric.update(torch.tensor([[0, 1], [2, 3]]))
        metric._explained = False
        with pytest.warns(UserWarning, match="1 of expert_ids lay outside"):
            assert metric.compute().isnan()
    # what is masked is no selection
    assert functional.configuration_entropy_score(torch.tensor([0, 1, 9]), 2, torch.tensor([1, 1, 0]).bool()) == 1


def test_load_entropy_correction_removes_its_bias():
    generator = torch.Generator().manual_seed(0)
    plain, corrected = [], []
    for _ in range(200):
        ids = torch.randint(16, (60,), generator=generator)
        for values, miller_madow in ((plain, False), (corrected, True)):
            metric = ConfigurationEntropyScore(16, miller_madow=miller_madow)
            metric.update(ids)
            values.append(metric.compute())
    assert torch.stack(plain).mean() < 0.96
    assert torch.stack(corrected).mean() == pytest.approx(1, abs=0.01)


def test_excess_of_the_load_entropy():
    metric = ConfigurationEntropyScore(num_experts=256)
    metric.update(torch.arange(8).expand(5, 8))
    assert metric.compute() == pytest.approx(3 / 8)
    assert metric.excess(8) == pytest.approx(0, abs=1e-12)
    with pytest.raises(ValueError, match="num_selected must lie in"):
        metric.excess(300)
    metric.update(torch.arange(256))
    assert 0 < metric.excess(8) < 1
    assert functional.excess_load_entropy(torch.ones(8), 8).isnan()


def test_network_needs_noise_for_its_information():
    x = torch.randn(4000, 1, generator=torch.Generator().manual_seed(1))
    with pytest.warns(UserWarning, match="say with how much"):
        ecr = EffectiveCompressionRatio(2**16, "gaussian_copula", num_features=(1, 1))
    ecr.update(x, 3 * x)
    with pytest.warns(UserWarning, match="see its own warning"), pytest.warns(UserWarning, match="declare a noise"):
        assert ecr.compute().isnan()
    noisy = EffectiveCompressionRatio(2**16, "gaussian_copula", num_features=(1, 1), noise=0.5)
    noisy.update(x, 3 * x)
    state = torch.get_rng_state()
    assert noisy.information() == pytest.approx(0.5 * math.log2(1 + 1 / 0.25), abs=0.05)
    assert torch.equal(torch.get_rng_state(), state)


def test_informations_of_a_classifier_of_digits():
    bunch = load_digits()
    images, labels = torch.tensor(bunch.data / 16).float(), torch.tensor(bunch.target)
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))

    def informations(target):
        ecr = EffectiveCompressionRatio(2410)
        with torch.no_grad():
            ecr.update(images, net(images), target)
        return ecr.information().item(), ecr.usable_information().item()

    untrained, usable = informations(labels)
    assert untrained < 0.02
    assert usable < 0.02
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(images), labels).backward()
        optimizer.step()
    trained, usable = informations(labels)
    assert 2.8 < trained < math.log2(10)
    assert 2.8 < usable < math.log2(10)
    shuffled = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]
    unmoved, useless = informations(shuffled)
    assert unmoved == trained  # it does not ask what is right
    assert useless < -3


@pytest.mark.slow
def test_companions_are_those_of_all_processes(tmp_path):
    with mp.Manager() as manager:
        results = manager.dict()
        processes.run(companions, (tmp_path / "store", results), 2)
        first, second = results[0], results[1]
    assert first == pytest.approx(second)
    relevance = torch.stack([torch.arange(4.0) + start for start in range(3)])
    tokens = torch.stack([relevance[0], relevance[1], relevance[2].flip(0) ** 2])
    law = functional.learning_curve(torch.tensor([1e3, 3e3, 1e4, 1e5]), torch.tensor([0.5, 0.6, 0.7, 0.8]).double())
    assert first == pytest.approx(
        (
            math.sqrt(0.6 * 0.4 / 30) / 0.4,
            float(functional.rank_coupling(relevance, tokens)),
            float(functional.allocation_regret(relevance, tokens).mean()),
            law.exponent,
        )
    )


def test_ecr_of_a_run_divides_by_all_parameters():
    metric = select_tap("ECR").fresh({"num_params": 2**10, "active_params": 2**10, "total_params": 2**20})
    metric.update(None, torch.tensor([[60.0, 0.0], [0.0, 60.0]]))
    assert metric.compute() == pytest.approx(1 / 20)  # one bit over log2 of all
    assert select_tap("ECR").missing({"num_params": 2**10}) == ["total_params"]
