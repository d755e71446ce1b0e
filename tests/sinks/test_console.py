from intensive_callbacks.sinks import ConsoleSink
from sinks.logged import ALARM, VERDICT, log_all


def test_the_featured_rows_and_the_verdict_are_printed(capsys):
    log_all(ConsoleSink())
    out = capsys.readouterr().out
    assert "tiny" in out
    assert "large" not in out
    assert "90k" in out.replace("90.0k", "90k")  # P3
    assert out.endswith(f"routing/health: {VERDICT}\n")
    assert ALARM not in out


def test_a_value_of_the_whole_run_is_one_line_of_text(capsys):
    text = f"dead experts in [bold]layers[0].mlp[/bold] :boom: {'x' * 300}"
    ConsoleSink().set_summary("routing/health", text)
    assert capsys.readouterr().out == f"routing/health: {text}\n"


def test_a_file_gets_lines_of_120_characters(capsys):
    log_all(ConsoleSink())
    lines = capsys.readouterr().out.splitlines()
    assert 80 < max(map(len, lines)) <= 120
