"""`python -m tests.fuzz.run TARGET [libFuzzer's arguments]`: atheris on one of the targets."""

import sys

import atheris

with atheris.instrument_imports(include=["services.gateway", "services.kit"]):
    from tests.fuzz.targets import TARGETS

if __name__ == "__main__":
    target = TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()
