"""`mediaflow plan`: what a fleet takes, from what each step costs on this machine.

:mod:`~mediaflow.bench.plan.measuring` finds out what a step costs, :mod:`~mediaflow.bench.plan.sizing` computes: plain
data in, plain data out.
"""
