"""What the model of the protocol found (tests/simulation/model): each trace, on the real scripts."""

from harness.laboratory import JUNIOR, SENIOR


async def test_a_late_renewal_of_an_old_process_leaves_its_successors_sessions_to_be_found_when_that_dies(
    lab,
):
    claim = await lab.hold(SENIOR)
    restarted = SENIOR._replace(incarnation=2)
    assert await lab.store.sweep_dead(SENIOR.instance_id, 2, "restarted") == 1
    taken = await lab.give(claim, restarted)
    assert (await lab.store.renew(SENIOR, claim)).status == "lost"
    assert lab.indexes(taken) == {"leases"}
    assert await lab.store.sweep_dead(SENIOR.instance_id, 3, "process died") == 1


async def test_a_late_renewal_of_a_former_owner_leaves_nothing_in_its_set(lab):
    claim = await lab.hold(SENIOR)
    await lab.move(claim, JUNIOR)
    assert (await lab.store.renew(SENIOR, claim)).status == "lost"
    partition = lab.keys.partition_of("call")
    assert lab.raw.smembers(lab.keys.owned(partition, SENIOR.instance_id)) == set()
