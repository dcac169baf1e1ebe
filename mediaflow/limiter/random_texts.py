"""Texts that nobody can guess, many made at a time: asked for one by one, the kernel costs more than all else."""

import base64
import secrets

AT_A_TIME = 64


class RandomTexts:
    """Gives random texts of as many bytes, which fit into URLs; three bytes are four characters."""

    def __init__(self, size_bytes: int) -> None:
        """Give texts of so many bytes, a multiple of three."""
        self._size_bytes = size_bytes
        self._left: list[str] = []

    def next(self) -> str:
        """Return one that was not given before."""
        if not self._left:
            text = base64.urlsafe_b64encode(secrets.token_bytes(AT_A_TIME * self._size_bytes)).decode()
            length = len(text) // AT_A_TIME
            self._left = [text[at : at + length] for at in range(0, len(text), length)]
        return self._left.pop()
