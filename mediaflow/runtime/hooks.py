"""What a user may put into an instance besides the handler."""

from typing import NamedTuple

from mediaflow.runtime.load import Load
from mediaflow.runtime.oncall import OnCall


class Hooks(NamedTuple):
    """Functions of the user's, each of which may be missing.

    Attributes:
        load: Says how busy the instance is, from 0 to 1.
        on_call: Accepts or refuses a call before it takes a slot.
    """

    load: Load | None = None
    on_call: OnCall | None = None


NO_HOOKS = Hooks()
"""None of them."""
