"""Speech to record: Debian's telephone prompts where they are installed, else noise."""

import random
import wave
from pathlib import Path

SOUNDS = Path("/usr/share/asterisk/sounds")
RATE = 8000


def telephone_speech() -> list[Path]:
    """Return the recordings of Debian's asterisk-core-sounds-en-wav, the longest first; none where it is missing."""
    found = SOUNDS.glob("en*/*.wav")
    return sorted(found, key=lambda path: (-path.stat().st_size, path.name))


def generate(path: Path, seconds: float, seed: int) -> Path:
    """Write noise, the same for each seed."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(random.Random(seed).randbytes(2 * int(seconds * RATE)))
    return path


def samples_of(path: Path) -> bytes:
    """Return the samples of a WAV file of telephone speech."""
    with wave.open(str(path), "rb") as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (RATE, 1, 2)
        return file.readframes(file.getnframes())
