"""The smallest whole use: calls inside any asyncio program. It needs no Redis and ends by itself.

python examples/embedded.py
"""

import asyncio

from mediaflow import MediaApp, Session

app = MediaApp(slots=10, redis="memory://")  # in earnest: redis="redis://localhost:6379/0"
ended = asyncio.Event()


@app.session
async def count(session: Session) -> None:
    """Count for as long as the call lasts; another owner would go on with the last number saved."""
    state = session.resume or {"number": 0}
    try:
        while True:
            session.check()  # raises LeaseLost when another owner may have taken over
            state["number"] += 1
            print(f"{session.call_id}: {state['number']}")
            await session.checkpoint(state)
            await asyncio.sleep(0.2)
    finally:
        print(f"{session.call_id} ended: {session.end_reason}")
        ended.set()


async def main() -> None:
    """Run one call for a second."""
    async with app:
        call = await app.start_call("call-42", {"room": 7})
        print(f"{call.call_id} is {call.state} on {call.owner}")
        await asyncio.sleep(1)
        await app.end_call("call-42")
        await ended.wait()


if __name__ == "__main__":
    asyncio.run(main())
