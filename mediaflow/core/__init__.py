"""Every decision as plain functions over frozen data: no await, no clock, no randomness, no I/O.

Core decides *when to try*; the Lua scripts of :mod:`mediaflow.store` decide *who wins*.
"""
