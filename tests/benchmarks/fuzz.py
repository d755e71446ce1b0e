"""Random input for every public function and metric, and what comes of it.

Usage: python tests/benchmarks/fuzz.py [number of inputs] [seed]

Prints how often each outcome came, and an example of each that may not: a value outside the documented bounds, an error
other than a ValueError or TypeError that names an argument, a call without end. Exits with 1 if there was one.
"""

import random
import resource
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch

from fuzzing import ALLOWED, Counts, draw, outcome, targets

GIGABYTES = 12


def main(num_inputs: int, seed: int) -> int:
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_AS, (GIGABYTES << 30, GIGABYTES << 30))
    rng, counts, chosen, begun = random.Random(seed), Counts(), targets(), time.monotonic()
    for number in range(num_inputs):
        target = chosen[number % len(chosen)]
        counts.add(target, *outcome(target, draw(rng, target)))
    for (name, kind), detail in sorted(counts.failures.items()):
        print(f"{name}: {kind.partition(':')[0]}: {detail[:300]}")
    print(Counter(name.partition("#")[0] for name, _ in counts.failures).most_common(20))
    print(f"{num_inputs:,} inputs, {len(chosen)} functions and metrics, {time.monotonic() - begun:.0f} s")
    for kind, count in sorted(counts.outcomes.items(), key=lambda item: -item[1]):
        print(f"{count:9,} {kind}")
    return int(any(kind not in ALLOWED for kind in counts.outcomes))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 200_000, int(sys.argv[2]) if len(sys.argv) > 2 else 0))
