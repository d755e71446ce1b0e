"""Every logged key as data: what it is called, what it means, in which unit, and which metric forms it.

This is the single source for the README's table, the dashboards, the benchmark's columns and the tests. A card of a
metric names its class by ``module.Class`` below ``intensive_callbacks.metrics``; the Monitor fills the constructor's
required arguments with the facts of the same names and feeds ``update`` from the signal in ``fed_by``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SEED_FRAMEWORKS = "Intensive Intelligence: Measurement Frameworks"
SEED_FOUNDATIONS = "Intensive Intelligence: Mathematical Foundations"
SEED_DENSITY = "The Intelligence Density Metric"


@dataclass(frozen=True)
class Card:
    """One logged key.

    Attributes:
        key: the name under which it is logged.
        symbol: its short name, in tables and legends.
        meaning: one sentence, the definition in words or as a formula.
        unit: the unit, or ``"1"`` for a plain number.
        better: the direction a reader should hope for; ``"neither"`` where there is none.
        size: how it moves when a model doubles with its behaviour unchanged: stays (``"intensive"``), falls about as
            1/size (``"ratio"``) or grows (``"extensive"``).
        source: the paper or document that defines it.
        section: the dashboard's section it is shown in.
        metric: ``module.Class`` below ``intensive_callbacks.metrics``; ``None`` for a key that is no metric.
        fed_by: the signal that feeds the metric; ``"data"`` is a fresh accuracy together with the number of training
            examples seen, as long as each was new, ``"energy"`` the joules of training and the bits it overwrote,
            ``"gradients"`` the squared gradient norms of a small and a large batch.
        band: a range that its source recommends, shown as the source's opinion.
        default: whether ``metrics="default"`` logs it.
    """

    key: str
    symbol: str
    meaning: str
    unit: str
    better: Literal["higher", "lower", "neither"]
    size: Literal["intensive", "ratio", "extensive"]
    source: str
    section: str
    metric: str | None = None
    fed_by: Literal["accuracy", "data", "energy", "gradients", "routing", "tokens", "tap"] | None = None
    band: tuple[float, float] | None = None
    default: bool = True


_BASELINE = (
    Card(
        key="baseline/random_accuracy",
        symbol="random accuracy",
        meaning="accuracy of chance, given or measured on the untrained model",
        unit="fraction",
        better="neither",
        size="intensive",
        source=SEED_FRAMEWORKS,
        section="Efficiency",
    ),
    Card(
        key="baseline/total_params",
        symbol="params",
        meaning="parameters, every element once",
        unit="1",
        better="lower",
        size="extensive",
        source=SEED_FRAMEWORKS,
        section="Efficiency",
    ),
    Card(
        key="baseline/active_params",
        symbol="active params",
        meaning="parameters that one token (or example) touches",
        unit="1",
        better="lower",
        size="extensive",
        source=SEED_FRAMEWORKS,
        section="Efficiency",
    ),
    Card(
        key="baseline/num_bytes",
        symbol="bytes",
        meaning="resident weights: the bytes of parameters and buffers",
        unit="B",
        better="lower",
        size="extensive",
        source=SEED_FRAMEWORKS,
        section="Efficiency",
    ),
    Card(
        key="baseline/flops_per_token",
        symbol="FLOPs/token",
        meaning="floating point operations (1 MAC = 2) of one forward pass, per token, measured on a real batch",
        unit="FLOP",
        better="lower",
        size="extensive",
        source=SEED_FRAMEWORKS,
        section="Efficiency",
    ),
    Card(
        key="baseline/flops_per_example",
        symbol="FLOPs/example",
        meaning="the same per example, for a model that has no tokens",
        unit="FLOP",
        better="lower",
        size="extensive",
        source=SEED_FRAMEWORKS,
        section="Efficiency",
    ),
)

_COST = (
    Card(
        key="cost/tokens_per_second",
        symbol="tokens/s",
        meaning="training tokens, padding left out, of all processes, per second of wall-clock time without validation",
        unit="tokens per second",
        better="higher",
        size="ratio",
        source="this library",
        section="Efficiency",
    ),
    Card(
        key="cost/examples_per_second",
        symbol="examples/s",
        meaning="the same in examples, for a model that has no tokens",
        unit="examples per second",
        better="higher",
        size="ratio",
        source="this library",
        section="Efficiency",
    ),
    Card(
        key="cost/joules_per_token",
        symbol="J/token",
        meaning="energy of training per token, by the GPUs' own counters; absent without them",
        unit="J",
        better="lower",
        size="extensive",
        source="this library",
        section="Efficiency",
    ),
    Card(
        key="cost/joules_per_example",
        symbol="J/example",
        meaning="the same per example, for a model that has no tokens",
        unit="J",
        better="lower",
        size="extensive",
        source="this library",
        section="Efficiency",
    ),
)

_EFFICIENCY = (
    Card(
        key="intensive/p3_score",
        symbol="P3",
        meaning="100·accuracy / (active parameters / 1e9)",
        unit="points per 1e9 params",
        better="higher",
        size="ratio",
        source=SEED_FRAMEWORKS,
        section="Efficiency",
        metric="efficiency.PerformancePerParameter",
        fed_by="accuracy",
    ),
    Card(
        key="intensive/p2f_score",
        symbol="P2F",
        meaning="100·accuracy / (measured forward FLOPs per token or example / 1e12)",
        unit="points per TFLOP",
        better="higher",
        size="ratio",
        source=SEED_FRAMEWORKS,
        section="Efficiency",
        metric="efficiency.PerformancePerFlop",
        fed_by="accuracy",
    ),
    Card(
        key="intensive/memory_efficiency",
        symbol="MER",
        meaning="100·accuracy / (resident weights in GB of 1e9 bytes)",
        unit="points per GB",
        better="higher",
        size="ratio",
        source=SEED_FRAMEWORKS,
        section="Efficiency",
        metric="efficiency.MemoryEfficiencyRatio",
        fed_by="accuracy",
    ),
    Card(
        key="intensive/accuracy_per_joule",
        symbol="P/J",
        meaning="100·accuracy / (measured joules of training per token or example); absent where no GPU counts them",
        unit="points per J",
        better="higher",
        size="ratio",
        source="this library",
        section="Efficiency",
        metric="efficiency.PerformancePerJoule",
        fed_by="accuracy",
    ),
    Card(
        key="intensive/intelligence_density",
        symbol="ID",
        meaning="-ln(1 - accuracy) / (resident weights in GB of 1e9 bytes)",
        unit="nats per GB",
        better="higher",
        size="ratio",
        source=SEED_DENSITY,
        section="Efficiency",
        metric="density.IntelligenceDensity",
        fed_by="accuracy",
    ),
    Card(
        key="intensive/capability_density",
        symbol="CD",
        meaning="parameters a Qwen1.5 model needs for this accuracy on MMLU / active parameters",
        unit="1",
        better="higher",
        size="intensive",
        source="arXiv 2412.04315",
        section="Efficiency",
        metric="density.CapabilityDensity",
        fed_by="accuracy",
        default=False,  # it has a meaning only where the accuracy is one on MMLU
    ),
)

_COUPLING = (
    Card(
        key="intensive/relevance_rate",
        symbol="R3",
        meaning="(active / total parameters)·(accuracy / random baseline)",
        unit="1",
        better="neither",
        size="ratio",
        source=SEED_FRAMEWORKS,
        section="Coupling and routing",
        metric="coupling.RelevanceRealizationRate",
        fed_by="accuracy",
    ),
    Card(
        key="intensive/config_entropy",
        symbol="CES",
        meaning="H(expert load) / log(number of experts), mean over layers, over the validation set where there is one",
        unit="fraction",
        better="neither",
        size="intensive",
        source=SEED_FRAMEWORKS,
        section="Coupling and routing",
        metric="coupling.ConfigurationEntropyScore",
        fed_by="routing",
        band=(0.3, 0.7),
    ),
    Card(
        key="intensive/query_coupling",
        symbol="QC3",
        meaning="Pearson correlation of relevance and token budgets over all patches",
        unit="1",
        better="higher",
        size="intensive",
        source=SEED_FRAMEWORKS,
        section="Coupling and routing",
        metric="allocation.QueryContentCoupling",
        fed_by="tap",
        band=(0.7, 1.0),
    ),
)

_COMPRESSION = (
    Card(
        key="intensive/compression_ratio",
        symbol="ECR",
        meaning="I(input; output) / log2(parameters), by default of a classifier's own channel: H(mean p) - mean H(p)",
        unit="bits per log2 param",
        better="higher",
        size="intensive",
        source=SEED_FRAMEWORKS,
        section="Compression",
        metric="compression.EffectiveCompressionRatio",
        fed_by="tap",
    ),
    Card(
        key="intensive/sparsity_adjusted_accuracy",
        symbol="SAA",
        meaning="accuracy·(1 - active / total parameters); 0 for every dense model",
        unit="fraction",
        better="higher",
        size="intensive",
        source=SEED_FRAMEWORKS,
        section="Compression",
        metric="compression.SparsityAdjustedAccuracy",
        fed_by="accuracy",
    ),
)

_SCALING = (
    Card(
        key="intensive/chinchilla_optimality",
        symbol="COI",
        meaning="active parameters per training token seen, times 20: above 1 under-trained, below 1 over-trained",
        unit="1",
        better="neither",
        size="intensive",
        source=SEED_FRAMEWORKS,
        section="Scaling",
        metric="scaling.ChinchillaOptimalityIndex",
        fed_by="tokens",
    ),
    Card(
        key="intensive/generalization_efficiency",
        symbol="GE",
        meaning="100·(accuracy at N - accuracy at N/2) / (N/2) training examples, while every example is new",
        unit="points per example",
        better="higher",
        size="ratio",
        source=SEED_FRAMEWORKS,
        section="Scaling",
        metric="learning.GeneralizationEfficiency",
        fed_by="data",
        default=False,  # it has a meaning only in a run that sees each example once
    ),
)

_FOUNDATIONS = (
    Card(
        key="intensive/entropy",
        symbol="H",
        meaning="Shannon entropy of a stream of labels, Miller-Madow corrected",
        unit="bit",
        better="neither",
        size="intensive",
        source=SEED_FOUNDATIONS,
        section="Foundations",
        metric="information.ShannonEntropy",
        fed_by="tap",
        default=False,
    ),
    Card(
        key="intensive/mutual_information",
        symbol="MI",
        meaning="mutual information of two streams of labels, adjusted for chance",
        unit="bit",
        better="neither",
        size="intensive",
        source=SEED_FOUNDATIONS,
        section="Foundations",
        metric="information.MutualInformation",
        fed_by="tap",
        default=False,
    ),
    Card(
        key="intensive/coupling_quality",
        symbol="CQ",
        meaning="I(X;Y) / min(H(X), H(Y)) of two streams of labels, adjusted for chance",
        unit="1",
        better="higher",
        size="intensive",
        source=SEED_FOUNDATIONS,
        section="Foundations",
        metric="information.CouplingQuality",
        fed_by="tap",
        default=False,
    ),
    Card(
        key="intensive/configuration_quality",
        symbol="CQ·R3",
        meaning="coupling quality times relevance realisation rate",
        unit="1",
        better="higher",
        size="intensive",
        source=SEED_FOUNDATIONS,
        section="Foundations",
        metric="information.ConfigurationQuality",
        fed_by="tap",
        default=False,
    ),
    Card(
        key="intensive/relevance_density",
        symbol="I/area",
        meaning="mutual information of query and patch labels per pixel of a patch",
        unit="bit per pixel",
        better="higher",
        size="intensive",
        source=SEED_FOUNDATIONS,
        section="Foundations",
        metric="information.RelevanceDensity",
        fed_by="tap",
        default=False,
    ),
    Card(
        key="intensive/effective_dimensionality",
        symbol="D_eff",
        meaning="effective rank exp(H) of the covariance spectrum of a representation",
        unit="1",
        better="neither",
        size="intensive",
        source=SEED_FOUNDATIONS,
        section="Foundations",
        metric="representation.EffectiveDimensionality",
        fed_by="tap",
        default=False,
    ),
    Card(
        key="intensive/layerwise_mean",
        symbol="layer mean",
        meaning="mean of a quantity over layers, its error corrected for their correlation",
        unit="1",
        better="neither",
        size="intensive",
        source=SEED_FOUNDATIONS,
        section="Foundations",
        metric="representation.LayerwiseMean",
        fed_by="tap",
        default=False,
    ),
    Card(
        key="intensive/free_energy",
        symbol="F",
        meaning="free energy -ln sum exp(logits) of a router or classifier, mean over samples",
        unit="nat",
        better="neither",
        size="extensive",
        source=SEED_FOUNDATIONS,
        section="Foundations",
        metric="thermodynamics.FreeEnergy",
        fed_by="tap",
        default=False,
    ),
    Card(
        key="intensive/order_parameter",
        symbol="φ",
        meaning="accuracy above chance, accuracy - random baseline",
        unit="fraction",
        better="higher",
        size="intensive",
        source=SEED_FOUNDATIONS,
        section="Foundations",
        metric="thermodynamics.OrderParameter",
        fed_by="accuracy",
        default=False,
    ),
    Card(
        key="intensive/landauer_ratio",
        symbol="J/Landauer",
        meaning="measured energy over k·T·ln 2 for each bit erased",
        unit="1",
        better="lower",
        size="intensive",
        source=SEED_FOUNDATIONS,
        section="Foundations",
        metric="thermodynamics.LandauerRatio",
        fed_by="energy",
        default=False,
    ),
    Card(
        key="intensive/salience_divergence",
        symbol="KL",
        meaning="Kullback-Leibler divergence of people's salience from the model's, mean over maps",
        unit="nat",
        better="lower",
        size="intensive",
        source=SEED_FOUNDATIONS,
        section="Foundations",
        metric="relevance.SalienceDivergence",
        fed_by="tap",
        default=False,
    ),
    Card(
        key="intensive/task_information",
        symbol="I_V",
        meaning="label entropy less cross-entropy: usable information per example (and dimension)",
        unit="bit",
        better="higher",
        size="intensive",
        source=SEED_FOUNDATIONS,
        section="Foundations",
        metric="relevance.TaskInformation",
        fed_by="tap",
        default=False,
    ),
    Card(
        key="intensive/information_bottleneck",
        symbol="IB",
        meaning="I(X;T) - β·I(T;Y) of a discrete representation T",
        unit="bit",
        better="lower",
        size="intensive",
        source=SEED_FOUNDATIONS,
        section="Foundations",
        metric="relevance.InformationBottleneck",
        fed_by="tap",
        default=False,
    ),
    Card(
        key="intensive/critical_batch_size",
        symbol="B_crit",
        meaning="gradient noise scale tr(Σ) / |G|², averaged over steps",
        unit="examples",
        better="neither",
        size="intensive",
        source=SEED_FOUNDATIONS,
        section="Foundations",
        metric="training.CriticalBatchSize",
        fed_by="gradients",
        default=False,
    ),
    Card(
        key="intensive/parameter_flop_efficiency",
        symbol="P/(N·F)",
        meaning="100·accuracy / ((parameters / 1e9)·(FLOPs / 1e12))",
        unit="points per 1e9 params and TFLOP",
        better="higher",
        size="ratio",
        source=SEED_FOUNDATIONS,
        section="Foundations",
        metric="training.ParameterFlopEfficiency",
        fed_by="accuracy",
        default=False,
    ),
    Card(
        key="intensive/net_score",
        symbol="NetScore",
        meaning="20·log10(accuracy² / (sqrt(parameters)·sqrt(multiply-adds)))",
        unit="dB",
        better="higher",
        size="ratio",
        source=SEED_FOUNDATIONS,
        section="Foundations",
        metric="training.NetScore",
        fed_by="accuracy",
        default=False,
    ),
    Card(
        key="intensive/sparse_retention",
        symbol="retention",
        meaning="accuracy of the pruned over accuracy of the dense model, same examples",
        unit="1",
        better="higher",
        size="intensive",
        source=SEED_FOUNDATIONS,
        section="Foundations",
        metric="training.SparseRetention",
        default=False,
    ),
    Card(
        key="intensive/transfer_entropy",
        symbol="TE",
        meaning="I(Y_next; X_now | Y_now) of two discrete series, less what surrogates read",
        unit="bit per step",
        better="neither",
        size="intensive",
        source=SEED_FOUNDATIONS,
        section="Foundations",
        metric="dynamics.TransferEntropy",
        fed_by="tap",
        default=False,
    ),
    Card(
        key="intensive/gaussian_transfer_entropy",
        symbol="TE (Gaussian)",
        meaning="the same of continuous series as if Gaussian, without bias",
        unit="bit per step",
        better="neither",
        size="intensive",
        source=SEED_FOUNDATIONS,
        section="Foundations",
        metric="dynamics.GaussianTransferEntropy",
        fed_by="tap",
        default=False,
    ),
    Card(
        key="intensive/integrated_information",
        symbol="Φ",
        meaning="whole minus sum over the weakest bipartition, Gaussian",
        unit="bit",
        better="neither",
        size="intensive",
        source=SEED_FOUNDATIONS,
        section="Foundations",
        metric="dynamics.IntegratedInformation",
        fed_by="tap",
        default=False,
    ),
)

_ROUTING = (
    Card(
        key="routing/load_entropy",
        symbol="H(f)",
        meaning="H(expert load) / log(number of experts) over the training window; 1 when balanced",
        unit="fraction",
        better="higher",
        size="intensive",
        source="Shannon entropy of the load; the training companion of CES",
        section="Coupling and routing",
        metric="coupling.ConfigurationEntropyScore",
        fed_by="routing",
    ),
    Card(
        key="routing/conditional_entropy",
        symbol="H(E|token)",
        meaning="mean over tokens of H(router probabilities) / log(number of experts)",
        unit="fraction",
        better="lower",
        size="intensive",
        source="conditional Shannon entropy",
        section="Coupling and routing",
        metric="routing.ConditionalRoutingEntropy",
        fed_by="routing",
    ),
    Card(
        key="routing/specialization",
        symbol="I(token;E)",
        meaning="information that a token has about its expert: H(mean probabilities) - mean H(probabilities)",
        unit="bit",
        better="higher",
        size="intensive",
        source=SEED_FRAMEWORKS,
        section="Coupling and routing",
        metric="routing.ExpertSpecialization",
        fed_by="routing",
    ),
    Card(
        key="routing/max_violation",
        symbol="MaxVio",
        meaning="greatest expert load over the mean load, less 1",
        unit="1",
        better="lower",
        size="intensive",
        source="Wang et al. 2024, arXiv 2408.15664",
        section="Coupling and routing",
        metric="routing.MaxViolation",
        fed_by="routing",
    ),
    Card(
        key="routing/load_cv2",
        symbol="CV²",
        meaning="squared coefficient of variation of the expert load",
        unit="1",
        better="lower",
        size="intensive",
        source="Shazeer et al. 2017, arXiv 1701.06538",
        section="Coupling and routing",
        metric="routing.LoadVariation",
        fed_by="routing",
    ),
    Card(
        key="routing/dead_experts",
        symbol="dead",
        meaning="share of experts that received no token in the window",
        unit="fraction",
        better="lower",
        size="intensive",
        source="share of zero loads",
        section="Coupling and routing",
        metric="routing.DeadExperts",
        fed_by="routing",
    ),
    Card(
        key="routing/effective_experts",
        symbol="exp H",
        meaning="effective number of experts, exp(H(expert load))",
        unit="experts",
        better="higher",
        size="extensive",
        source="Hill number of order 1",
        section="Coupling and routing",
        metric="routing.EffectiveExperts",
        fed_by="routing",
    ),
    Card(
        key="routing/switch_balance",
        symbol="E·Σf·P",
        meaning="number of experts times the sum of load share times mean probability; 1 when balanced",
        unit="1",
        better="lower",
        size="intensive",
        source="Fedus et al. 2021, arXiv 2101.03961",
        section="Coupling and routing",
        metric="routing.SwitchBalance",
        fed_by="routing",
    ),
    Card(
        key="routing/free_energy",
        symbol="F of routers",
        meaning="free energy of the router, minus the mean logsumexp(logits), which the router z-loss keeps small",
        unit="nat",
        better="neither",
        size="extensive",
        source=SEED_FOUNDATIONS,
        section="Coupling and routing",
        metric="thermodynamics.FreeEnergy",
        fed_by="routing",
        default=False,
    ),
    Card(
        key="routing/router_z",
        symbol="z",
        meaning="mean over tokens of logsumexp(router logits)²",
        unit="nat²",
        better="lower",
        size="intensive",
        source="Zoph et al. 2022, arXiv 2202.08906",
        section="Coupling and routing",
        metric="routing.RouterZ",
        fed_by="routing",
    ),
    Card(
        key="routing/confidence",
        symbol="confidence",
        meaning="mean over tokens of the probability mass of the selected experts",
        unit="fraction",
        better="neither",
        size="intensive",
        source="selected mass of the router",
        section="Coupling and routing",
        metric="routing.RoutingConfidence",
        fed_by="routing",
    ),
    Card(
        key="routing/margin",
        symbol="margin",
        meaning="mean over tokens of the greatest router probability less the second greatest",
        unit="fraction",
        better="neither",
        size="intensive",
        source="top-1 margin",
        section="Coupling and routing",
        metric="routing.RouterMargin",
        fed_by="routing",
        default=False,
    ),
    Card(
        key="routing/drop_rate",
        symbol="drops",
        meaning="share of the selections that no expert received for lack of capacity",
        unit="fraction",
        better="lower",
        size="intensive",
        source="dropped over selected",
        section="Coupling and routing",
        metric="routing.DropRate",
        fed_by="routing",
    ),
)

CARDS: tuple[Card, ...] = (
    *_BASELINE,
    *_COST,
    *_EFFICIENCY,
    *_COUPLING,
    *_COMPRESSION,
    *_SCALING,
    *_FOUNDATIONS,
    *_ROUTING,
)


def card(name: str) -> Card:
    """The card with this key or symbol.

    Raises:
        KeyError: if no card bears the name; the message lists those there are.

    Example:
        >>> card("P3").key
        'intensive/p3_score'
    """
    for candidate in CARDS:
        if name in (candidate.key, candidate.symbol):
            return candidate
    known = ", ".join(f"{candidate.symbol} ({candidate.key})" for candidate in CARDS if candidate.metric)
    raise KeyError(f"no metric has the key or symbol {name!r}; there are {known}")


def markdown_table() -> str:
    """The table of logged keys, as the README shows it."""
    rows = ["| key | symbol | meaning | unit | better | with size |", "|---|---|---|---|---|---|"]
    rows += [
        f"| `{card.key}` | {card.symbol} | {card.meaning} | {card.unit} | {card.better} | {card.size} |"
        for card in CARDS
    ]
    return "\n".join(rows)
