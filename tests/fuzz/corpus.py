"""Write the committed corpus: `python -m tests.fuzz.corpus`. test_corpus.py holds it to what this writes."""

import shutil
from pathlib import Path

from tests.fuzz.targets import TARGETS, seeds_of

CORPUS = Path(__file__).parent / "corpus"


def main() -> None:
    """Write every target's seeds into a folder of its own."""
    for target in TARGETS:
        folder = CORPUS / target
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name, content in seeds_of(target):
            (folder / name).write_bytes(content)


if __name__ == "__main__":
    main()
