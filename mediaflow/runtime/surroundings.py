"""What all actors of an instance share."""

from typing import NamedTuple

from mediaflow.core.tenure import Rules
from mediaflow.runtime.clock import Clock
from mediaflow.runtime.meter import InstanceMeter
from mediaflow.runtime.renewer import Renewer
from mediaflow.runtime.session import Handler
from mediaflow.store import Owner, Store


class Surroundings(NamedTuple):
    """Made by the instance; ``owner`` is whoever it is when a session starts."""

    store: Store
    owner: Owner
    handler: Handler
    rules: Rules
    clock: Clock
    meter: InstanceMeter
    renewer: Renewer
