"""The judge of the soak: hand-made records of which it is known what they earn."""

from soak_verdict import Answer, Kill, growing, slow_returns, unearned

KILLS = [Kill("gateway", 10.0, 12.0, True), Kill("replica", 20.0, 45.0, False)]


def answer(began, ended, status):
    return Answer("image", began, ended, status, frozenset({200, 503}), "cut")


def test_documented_answers_are_earned():
    assert not unearned([answer(0, 1, 200), answer(0, 1, 503)], KILLS)


def test_other_statuses_are_told_with_their_number():
    assert unearned([answer(0, 1, 500), answer(11, 12, 500)], KILLS) == {"image: 500, not [200, 503]": 2}


def test_cut_connections_are_earned_while_the_gateway_is_dead():
    assert not unearned([answer(9, 10.5, None), answer(11, 11.5, None), answer(11.9, 13, None)], KILLS)
    for began, ended in ((8, 9.9), (12.1, 13), (21, 22)):
        assert unearned([answer(began, ended, None)], KILLS) == {"image: cut, not [200, 503]": 1}


def test_late_returns_are_told():
    assert slow_returns(KILLS) == ["replica: 25.0 s until the server answered again"]


def test_memory_that_grows_is_told():
    level = [(5.0 * step, 300.0) for step in range(60)]
    young = [(5.0 * step, min(100.0 + 20 * step, 300.0)) for step in range(60)]
    grows = [(5.0 * step, 300.0 + 5 * step) for step in range(60)]
    short = grows[:15]
    memory = {("level", 1): level, ("young", 2): young, ("grows", 3): grows, ("short", 4): short}
    assert growing(memory) == ["grows (3): 445 MiB, then 570"]
