"""How long the smallest changes to the next grade take to be found, by the size of the model.

300 made-up firms, all of the platform's features, models of 200 trees of depth 3 and 800 of depth 4
(what a training of four boosters gives); processor time of each firm, after one to warm up. The
last line is one JSON object.
"""

import gc
import json
import time
from typing import Any

import numpy as np

from services.scoring.features.registry import compute, encode
from services.scoring.models.improvements import Improver
from services.scoring.models.inputs import PLATFORM
from tests.unit.scoring.conftest import AS_OF
from tests.unit.scoring.firms import city
from tests.unit.scoring.models_of import model_of

FIRMS = 300
SIZES = ((200, 3), (800, 4))


def main() -> dict[str, Any]:
    """Measure."""
    made = city(FIRMS, 202405)
    vectors = [compute(summary, AS_OF) for summary, _ in made]
    matrix = np.array([encode(vector) for vector in vectors])
    labels = np.array([label for _, label in made], dtype=np.int64)
    result: dict[str, Any] = {"name": "improvements", "firms": FIRMS}
    for trees, depth in SIZES:
        improver = Improver(model_of(matrix, labels, PLATFORM.features, trees=trees, depth=depth))
        improver.of_firm(vectors[0])
        gc.freeze()  # a service's garbage is not looked for among what a benchmark has made
        taken, found = [], 0
        for vector in vectors:
            started = time.process_time()
            found += bool(improver.of_firm(vector).counterfactuals)
            taken.append((time.process_time() - started) * 1e3)
        mean, most = float(np.mean(taken)), max(taken)
        print(f"{trees} trees of depth {depth}: mean {mean:.1f} ms, at most {most:.1f} ms")
        result[f"mean_ms_{trees}x{depth}"] = mean
        result[f"max_ms_{trees}x{depth}"] = most
        result[f"found_{trees}x{depth}"] = found
    return result


if __name__ == "__main__":
    print(json.dumps(main()))
