"""`mediaflow bench`: our figures beside those of what a user would pick instead, and beside the physical limit.

A *contest* (:mod:`mediaflow.bench.contest`) has contestants: ours, and others. Each measures itself in real
processes against a private Redis, ours and theirs in turn, so that what the machine does meanwhile happens to
both of a pair. What is told is the ratio of each pair, its median and its spread.
"""
