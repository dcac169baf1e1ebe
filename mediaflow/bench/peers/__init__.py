"""The other side of the contests: what a user would pick instead, and the limits; each module is a process.

A peer's library is imported here only, and only by the process that is that peer.
"""
