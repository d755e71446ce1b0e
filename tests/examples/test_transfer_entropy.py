import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "04_transfer_entropy.py"


def test_tokens_tell_a_decoder_that_sees_and_no_other():
    run = subprocess.run([sys.executable, EXAMPLE], capture_output=True, text=True, check=True)
    rows = {line[:32].strip(): [float(word) for word in line[32:].split()] for line in run.stdout.splitlines()[2:5]}
    trained, another, blind = rows.values()
    assert trained[0] > 5 * another[0] > 0
    assert trained[3] > 0.8
    assert abs(blind[0]) < 0.01
    assert blind[2] > 0.05
