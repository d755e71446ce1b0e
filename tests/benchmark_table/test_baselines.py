import math
import re

import pytest

from intensive_callbacks import BenchmarkTable, load_baselines
from intensive_callbacks.benchmark.baselines import SHIPPED, TABLES, neighbors
from intensive_callbacks.benchmark.row import BenchmarkRow

HEADER = "model,task,protocol,source,accuracy,total_params,active_params,num_examples,per,featured\n"
GOOD = "a,MMLU,5-shot,somewhere,0.5,7e9,7e9,100,token,yes\n"


@pytest.mark.parametrize("name", TABLES)
def test_shipped_rows_have_sources_and_defined_metrics(name):
    rows = load_baselines(name)
    assert all("arXiv" in row.source or "github.com" in row.source for row in rows)
    table = BenchmarkTable(rows)
    metric = "ID (nats per GB)" if name == "density" else "P3 (points per 1e9 params)"
    place = table.columns.index(metric)
    assert all(row[place] is not None for row in table.rows())
    assert 3 <= sum(row.featured for row in rows) <= 6
    for row in rows:
        if row.random_baseline is not None and row.num_examples is not None:
            assert row.accuracy > row.random_baseline - 3 * row.accuracy_error


def test_each_shipped_file_is_named():
    assert {path.stem for path in SHIPPED.glob("*.csv")} == set(TABLES)


def test_published_figures():
    language = {(row.model, *row.group): row for row in load_baselines("language")}
    row = language["DeepSeek-V3", "MMLU", "5-shot, evaluated by DeepSeek for V3"]
    assert (row.num_tokens, row.accuracy) == (14.8e12, 0.871)
    # Counted; the publisher rounds the former to 671B and prints 37B for the latter without the input embedding.
    assert row.total_params == pytest.approx(671e9, abs=0.5e9)
    assert row.active_params - 129280 * 7168 == pytest.approx(37e9, abs=0.5e9)
    vision = {row.model: row for row in load_baselines("vision")}
    # ResNet-50: 25.56 million parameters, 4.1 GMAC (He et al. 2016) which are 8.2 GFLOP.
    assert vision["resnet50.tv_in1k"].total_params == pytest.approx(25.56e6)
    assert vision["resnet50.tv_in1k"].num_flops == pytest.approx(8.2e9, rel=0.01)


def test_own_csv_file(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text(HEADER + GOOD + 'b,MMLU,"5-shot, mine",here,0.25,,,,,no\n', encoding="utf-8")
    first, second = load_baselines(path)
    assert (first.model, first.accuracy, first.num_examples, first.featured) == ("a", 0.5, 100, True)
    assert (second.protocol, second.total_params, second.featured) == ("5-shot, mine", None, False)
    assert math.isnan(second.accuracy_error)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model,accuracy\na,0.5\n", "lacks the column task, protocol, source"),
        ("", "lacks the column model"),
        (
            HEADER + "a,MMLU,5-shot,x,87.1,7e9,7e9,,,\n",
            "line 2: accuracy must be a fraction in [0, 1], got 87.1; divide",
        ),
        (HEADER + "a,MMLU,5-shot,x,0.5,7B,7e9,,,\n", "line 2: total_params must be a number, got '7B'"),
        (HEADER + "a,MMLU,5-shot,,0.5,7e9,7e9,,,\n", "line 2: source must not be empty"),
        (HEADER + "a,MMLU,5-shot,x,,7e9,7e9,,,\n", "line 2: accuracy must not be empty"),
        (HEADER + GOOD + GOOD, "line 3: a on MMLU (5-shot) is in line 2 already"),
        (HEADER + "a,MMLU,5-shot\n", "line 2: expected as many cells as columns"),
        (HEADER + GOOD.strip() + ",more\n", "line 2: expected as many cells as columns"),
        (HEADER + "a,MMLU,5-shot,x,0.5,7e9,8e9,,,\n", "line 2: active_params must be at most total_params"),
        (HEADER + "a,MMLU,5-shot,x,0.5,7e9,7e9,,image,\n", "line 2: per must be token or example, got 'image'"),
        (HEADER + "a,MMLU,5-shot,x,0.5,7e9,7e9,2.5,,\n", "line 2: num_examples must be a whole number, got '2.5'"),
        (HEADER + "a,MMLU,5-shot,x,nan,7e9,7e9,,,\n", "line 2: accuracy must be a number, got 'nan'"),
        (HEADER + 'a,"MMLU\n', "is not a CSV file in UTF-8"),
    ],
)
def test_wrong_csv_names_line_and_reason(tmp_path, text, message):
    path = tmp_path / "theirs.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=re.escape(message)):
        load_baselines(path)


def test_file_that_is_no_table(tmp_path):
    path = tmp_path / "weights.csv"
    path.write_bytes(b"\x80\x02\xff\x00")
    with pytest.raises(ValueError, match="not a CSV file in UTF-8"):
        load_baselines(path)
    with path.open("wb") as file:
        file.truncate(64_000_001)
    with pytest.raises(ValueError, match="64,000,001 bytes; a table of baselines has at most"):
        load_baselines(path)
    with pytest.raises(FileNotFoundError, match="or the path of a CSV file"):
        load_baselines("audio")


def llama(vocabulary, width, layers, hidden, heads_width, *, tied):
    block = 4 * width * heads_width + 3 * width * hidden + 2 * width
    return vocabulary * width * (1 if tied else 2) + layers * block + width


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("llama-?(2-)?7b", llama(32000, 4096, 32, 11008, 4096, tied=False)),
        ("gemma-7b", llama(256000, 3072, 28, 24576, 16 * 256, tied=True)),
    ],
)
def test_shipped_sizes_follow_from_the_architecture(name, params):
    rows = [row for row in load_baselines("language") if re.search(name, row.model, re.IGNORECASE)]
    assert {(row.total_params, row.active_params, row.num_bytes) for row in rows} == {(params, params, 2 * params)}


def model(name, accuracy=math.nan, active_params=None, protocol="5-shot", task="MMLU"):
    known = {} if active_params is None else {"total_params": active_params, "active_params": active_params}
    return BenchmarkRow(model=name, task=task, protocol=protocol, source="x", accuracy=accuracy, **known)


def near(row, published, **options):
    return [other.model for other in neighbors(row, published, **options) if other.featured]


def test_neighbors_are_near_in_cost_and_in_quality():
    # Log-odds of 0.5, 0.731, 0.881 are 0, 1, 2; e-fold costs are one apart too.
    published = [
        model("same", 0.5, 1e9),
        model("dearer by e", 0.5, 1e9 * math.e),
        model("better by 2", 1 / (1 + math.exp(-2)), 1e9),
        model("both by 1", 1 / (1 + math.exp(-1)), 1e9 * math.e),
        model("dearer by 100", 0.5, 1e11),
    ]
    own = model("own", 0.5, 1e9, "measured in this run")
    assert near(own, published, limit=4) == ["same", "dearer by e", "better by 2", "both by 1"]
    assert near(own, published, limit=3) == ["same", "dearer by e", "both by 1"]
    assert [row.model for row in neighbors(own, published)] == [row.model for row in published]


def test_neighbors_share_one_protocol_and_prefer_the_own():
    published = [
        *(model(f"few {i}", 0.5, 1e9, "a") for i in range(2)),
        *(model(f"many {i}", 0.9, 9e9, "b") for i in range(6)),
    ]
    assert near(model("own", 0.5, 1e9, "c"), published) == [f"many {i}" for i in range(6)]
    assert near(model("own", 0.5, 1e9, "a"), published) == ["few 0", "few 1"]


def test_neighbors_without_accuracy_without_cost_and_of_another_task():
    published = [model("small", 0.3, 1e9), model("large", 0.9, 1e11)]
    assert near(model("own", active_params=2e11), published, limit=1) == ["large"]
    assert near(model("own", 0.3), published) == []
    assert near(model("own", 0.3, 1e9, task="this run"), published) == []
    assert near(model("own", 1.0, 1e9), published, limit=1) == ["large"]
    assert near(model("own", 0.5, 1e9), []) == []


@pytest.mark.parametrize("name", ["language", "vision", "vision-language"])
def test_at_most_six_shipped_models_stand_beside_a_run(name):
    published = load_baselines(name)
    own = BenchmarkRow(
        model="own",
        task=published[0].task,
        protocol="measured in this run",
        source="x",
        accuracy=0.6,
        active_params=3e9,
    )
    featured = [row for row in neighbors(own, published) if row.featured]
    assert 1 < len(featured) <= 6
    assert len({row.group for row in featured}) == 1
