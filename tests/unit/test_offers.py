"""An offer is accepted or refused, and what is under way is not crossed by its opposite."""

from mediaflow.runtime.offers import REMEMBERED, Offers
from mediaflow.store import Claim

OFFER = Claim("call", "session", 7)


def test_what_was_refused_is_not_accepted_when_it_is_offered_once_more():
    offers = Offers()
    assert offers.may_accept(OFFER)
    assert offers.refuse(OFFER)
    assert not offers.may_accept(OFFER)


def test_the_next_offer_of_the_same_session_is_another():
    offers = Offers()
    offers.refuse(OFFER)
    assert offers.may_accept(OFFER._replace(fence=8))


def test_while_an_acceptance_is_under_way_there_is_neither_a_second_nor_a_refusal():
    offers = Offers()
    with offers.accepting([OFFER]):
        assert not offers.may_accept(OFFER)
        assert not offers.refuse(OFFER)
    assert offers.may_accept(OFFER)


def test_refusals_are_forgotten_in_the_end():
    offers = Offers()
    for fence in range(REMEMBERED + 1):
        offers.refuse(OFFER._replace(fence=fence))
    assert offers.may_accept(OFFER._replace(fence=0))
    assert not offers.may_accept(OFFER._replace(fence=1))
