"""Explore every configuration, or show a mutant's counterexample: ``python -m simulation.model [RULE …]``."""

import sys

from simulation.model.configurations import ALL, LIMITS, MUTANTS
from simulation.model.explore import explore
from simulation.model.rules import Rules


def main(rules: list[str]) -> int:
    """Print what is found; 1 if a configuration breaks a promise."""
    if rules:
        for mutant in MUTANTS:
            if mutant.rule in rules:
                found = explore(mutant.configuration._replace(rules=Rules(**{mutant.rule: False})))
                print(f"without {mutant.rule}: {found}", flush=True)
        for configuration, _ in LIMITS if "limits" in rules else ():
            print(explore(configuration), flush=True)
        return 0
    broken = False
    for configuration in ALL:
        found = explore(configuration)
        print(found, flush=True)
        broken = broken or bool(found.broken)
    return int(broken)


sys.exit(main(sys.argv[1:]))
