"""What the parts of an instance share."""

import random
from typing import NamedTuple

from mediaflow.runtime.capacity import Capacity
from mediaflow.runtime.clock import Clock
from mediaflow.runtime.meter import InstanceMeter
from mediaflow.runtime.registration import Registration
from mediaflow.runtime.roll import Roll
from mediaflow.settings import Settings
from mediaflow.store import Store

LOOK_TIMEOUT_S = 0.7
"""For what is asked of Redis before a call is made: with the hook in between, all of it is answered in good time."""


class Premises(NamedTuple):
    """Made by the instance, and handed to each of its parts."""

    store: Store
    settings: Settings
    clock: Clock
    random: random.Random
    meter: InstanceMeter
    registration: Registration
    capacity: Capacity
    roll: Roll
