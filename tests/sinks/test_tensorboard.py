"""TensorBoard's own event files, read back by TensorBoard's own reader."""

import io
import sys

import pytest

from intensive_callbacks.sinks import LoggerSink, TensorBoardSink, charts
from sinks.logged import ALARM, CES, P3, VERDICT, log_all, table

reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
# The writer's and the reader's own.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
TEXTS = {"final_benchmark/text_summary", "alerts/text_summary", "routing/health/text_summary"}


@pytest.fixture
def writer(tmp_path):
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path)) as writer:
        yield writer


def events(folder):
    accumulator = reader.EventAccumulator(str(folder), size_guidance={"images": 0, "tensors": 0, "scalars": 0})
    accumulator.Reload()
    return accumulator


def text(accumulator, tag):
    """The texts under a tag, oldest first."""
    found = accumulator.Tensors(f"{tag}/text_summary")
    return [event.tensor_proto.string_val[0].decode() for event in found]


def scalars(accumulator, key):
    return [(event.step, event.value) for event in accumulator.Scalars(key)]


def test_an_event_file_holds_all_that_was_logged(tmp_path, writer):
    from PIL import Image

    log_all(TensorBoardSink(writer))
    found = events(tmp_path)
    assert scalars(found, P3) == [(49, 1.0), (99, 2.0)]
    assert [step for step, _ in scalars(found, CES)] == [49]
    assert text(found, "final_benchmark") == [table().to_markdown()]
    assert text(found, "routing/health") == [VERDICT]
    assert text(found, "alerts") == [f"**routing/health**: {ALARM}"]
    assert set(found.Tags()["images"]) == {"intensive_overview", "routing_heatmap"}
    for tag in found.Tags()["images"]:
        (image,) = found.Images(tag)
        with Image.open(io.BytesIO(image.encoded_image_string)) as picture:
            assert picture.size == (image.width, image.height)
            assert len(picture.convert("RGB").getcolors(2**24)) > 10  # something is drawn


def test_a_lightning_logger_gives_its_writer_the_rest(tmp_path):
    from pytorch_lightning.loggers import TensorBoardLogger

    logger = TensorBoardLogger(tmp_path, name="tiny", prefix="mine")
    sink = LoggerSink(logger)
    log_all(sink)
    assert isinstance(sink.tracker, TensorBoardSink)
    found = events(logger.log_dir)
    assert scalars(found, f"mine-{P3}") == [(49, 1.0), (99, 2.0)]
    assert set(found.Tags()["tensors"]) == TEXTS
    assert set(found.Tags()["images"]) == {"intensive_overview", "routing_heatmap"}


def test_without_the_render_extra_only_the_images_are_missing(tmp_path, writer, monkeypatch):
    charts.can_draw.cache_clear()
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    with pytest.warns(RuntimeWarning, match=r"'intensive-callbacks\[render\]'"):
        log_all(TensorBoardSink(writer))
    charts.can_draw.cache_clear()
    found = events(tmp_path)
    assert found.Tags()["images"] == []
    assert set(found.Tags()["tensors"]) == TEXTS
