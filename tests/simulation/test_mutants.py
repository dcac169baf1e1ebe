"""The list of sabotages stays true to the code; ``python tests/simulation/mutants.py`` tries them all."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import mutants


def test_every_sabotage_still_finds_its_place_in_the_code(tmp_path):
    for mutant in mutants.MUTANTS:
        mutants.apply(mutant, tmp_path / mutant.name)
    assert len(mutants.MUTANTS) >= 15
