"""Our side of the contests: each module is a process, run as a user runs the product, that says its figures as JSON."""
