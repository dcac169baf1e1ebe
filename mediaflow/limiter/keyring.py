"""The keys of a limiter: its own until Redis can be asked, then the one that all replicas agree on."""

from typing import NamedTuple

from mediaflow.limiter import stream_id as ids
from mediaflow.limiter.outcomes import StreamUnknown
from mediaflow.limiter.signing import Signer, configured_signer, new_key, signer
from mediaflow.limiter.stream_id import StreamFacts
from mediaflow.store import RedisStore

_SHARED_NAME = "token_key"
_FORMER_KEPT = 4


class Known(NamedTuple):
    """A stream by its id.

    Attributes:
        stream_id: As it is issued now: another text than the one that was read, if the key is another one since.
    """

    facts: StreamFacts
    stream_id: str


class Keyring:
    """Issues and reads stream ids, and knows what signs tokens.

    Attributes:
        agreed: The key that replicas agree on; None while it is not known.
    """

    def __init__(self, token_key: str) -> None:
        """Take the setting ``token_key``; empty leaves the choice to the first replica.

        Raises:
            SettingsError: It names no key.
        """
        self.agreed: Signer | None = configured_signer(token_key)
        self._is_given = self.agreed is not None
        self._proposal = new_key()
        self._generation = 0
        self._secrets = (signer(self._proposal).id_secret,)

    def agrees_with(self, store: RedisStore) -> bool:
        """Tell whether the key of this server is known; else :meth:`agree` asks."""
        return self._is_given or (self.agreed is not None and self._generation == store.generation)

    async def agree(self, store: RedisStore) -> None:
        """Learn the key of the namespace, or make ours the one.

        Asked of every server anew: one that lost its data gets the key back before another replica, to which
        our ids would be unknown, makes one.

        Raises:
            StoreUnavailable: Redis cannot be asked now.
        """
        if self.agrees_with(store):
            return
        pem = await store.shared_secret(_SHARED_NAME, self._proposal)
        self._generation = store.generation
        if self.agreed is None or pem != self._proposal:
            self._remember(signer(pem))
        self._proposal = pem

    def issue(self, user_id: str, facts: StreamFacts) -> str:
        """Return the id of a stream."""
        return ids.issue(self._secret(), user_id, facts)

    def read(self, user_id: str, stream_id: str) -> Known:
        """Return what an id says.

        Raises:
            StreamUnknown: It was not issued for this user.
        """
        if facts := ids.read((self._secret(),), user_id, stream_id):
            return Known(facts, stream_id)
        facts = _some(ids.read(self._secrets, user_id, stream_id))
        return Known(facts, self.issue(user_id, facts))

    def believe(self, user_id: str, stream_id: str) -> StreamFacts:
        """Return what an id says for an answer that counts nothing; see :func:`stream_id.unverified`.

        Raises:
            StreamUnknown: It says nothing, or a key is known and did not sign it.
        """
        return self.read(user_id, stream_id).facts if self.agreed else _some(ids.unverified(stream_id))

    def _secret(self) -> bytes:
        return self.agreed.id_secret if self.agreed else self._secrets[-1]

    def _remember(self, agreed: Signer) -> None:
        # Ids that were signed with the key before are still out there.
        former = (self.agreed.id_secret,) if self.agreed else ()
        self._secrets = (*former, *self._secrets)[:_FORMER_KEPT]
        self.agreed = agreed


def _some(facts: StreamFacts | None) -> StreamFacts:
    if facts is None:
        raise StreamUnknown("no stream of this user ever had this id")
    return facts
