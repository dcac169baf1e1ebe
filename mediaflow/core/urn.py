"""An urn with a ball for each free slot: drawing one costs the logarithm of the number of instances, not that number.

A fleet of ten thousand is drawn from thousands of times a second. So the sums that a draw by weight needs are kept
in a binary indexed tree (Fenwick 1994, "A new data structure for cumulative frequency tables"), where a draw walks
down and a change walks up. The same draw gives the same instance as walking along the instances would.

It is no decision: whose balls are in it, and when one is taken out, is its holder's business.
"""

from collections.abc import Collection, Iterable


class Urn:
    """Names with a number of balls each; a number below zero is kept, and counts as none.

    Args:
        balls: Each name once, with its number. Their order decides which draw means whom.

    Attributes:
        total: Balls of all names.
    """

    __slots__ = ("_balls", "_names", "_places", "_sums", "_widest", "total")

    def __init__(self, balls: Iterable[tuple[str, int]] = ()) -> None:
        self._names: list[str] = []
        self._balls: list[int] = []
        for name, number in balls:
            self._names.append(name)
            self._balls.append(number)
        self._places = {name: place for place, name in enumerate(self._names, 1)}
        # At place i stands the sum of the places above i - (i & -i), up to i.
        self._sums = [0, *(max(0, number) for number in self._balls)]
        self._widest = 1 << len(self._names).bit_length()
        self.total = sum(self._sums)
        for place in range(1, len(self._sums)):
            parent = place + (place & -place)
            if parent < len(self._sums):
                self._sums[parent] += self._sums[place]

    def __contains__(self, name: str) -> bool:
        """Tell whether a name is in it, with or without balls."""
        return name in self._places

    def balls(self, name: str) -> int:
        """Return the number of a name, which may be below zero; 0 if it is not in the urn."""
        place = self._places.get(name)
        return 0 if place is None else self._balls[place - 1]

    def add(self, name: str, number: int) -> None:
        """Put balls in, or take some out (``number`` below zero); nothing happens for a name that is not in it."""
        place = self._places.get(name)
        if place is None:
            return
        before = self._balls[place - 1]
        self._balls[place - 1] = before + number
        change = max(0, before + number) - max(0, before)
        if change:
            self.total += change
            sums = self._sums
            while place < len(sums):
                sums[place] += change
                place += place & -place

    def remove(self, name: str) -> None:
        """Take a name out, with all its balls; none can be put in again."""
        self.add(name, -max(0, self.balls(name)))
        self._places.pop(name, None)

    def draw(self, random_unit: float, excluded: Collection[str] = ()) -> str | None:
        """Return a name, each with a chance in proportion to its balls; they stay in.

        Args:
            random_unit: A draw from [0, 1).
            excluded: Names that are not to be drawn; few, for each costs as much as a draw.

        Returns:
            None if there is no other ball.

        Raises:
            ValueError: ``random_unit`` is outside [0, 1).
        """
        out = [(name, balls) for name in excluded if (balls := self.balls(name)) > 0]
        for name, balls in out:
            self.add(name, -balls)
        try:
            return self._draw(random_unit)
        finally:
            for name, balls in out:
                self.add(name, balls)

    def _draw(self, random_unit: float) -> str | None:
        if not 0 <= random_unit < 1:
            raise ValueError(f"random_unit = {random_unit}: use 0 or more, and less than 1")
        if not self.total:
            return None
        # The product can round up to the total itself; the last ball is then the one that was meant.
        ball = min(int(random_unit * self.total), self.total - 1)
        sums, place, stride = self._sums, 0, self._widest
        while stride:
            further = place + stride
            if further < len(sums) and sums[further] <= ball:
                place = further
                ball -= sums[further]
            stride >>= 1
        return self._names[place]
