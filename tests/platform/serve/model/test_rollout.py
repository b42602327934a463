"""Which version each replica is told to serve: one tries a new one first, and a failure stays with that one."""

from maskray.platform.serve.model.rollout import SILENT_SECONDS, Report, Rollout, Target

ONE, TWO, THREE = (Target("shapes", str(number), f"/models/{number}") for number in (1, 2, 3))


def tell(rollout, replica, serves, now=0.0, failed=None):
    return rollout.report(Report(replica, serves, failed or {}), now)


def test_new_version_goes_to_one_replica_and_to_all_once_it_answers_there():
    rollout = Rollout(ONE)
    assert tell(rollout, "a", ONE) == tell(rollout, "b", ONE) == ONE
    rollout.offer(TWO)
    assert tell(rollout, "a", ONE) == TWO
    assert tell(rollout, "b", ONE) == ONE
    assert tell(rollout, "new", None) == ONE  # one that starts has nothing to fall back on
    assert tell(rollout, "a", TWO) == TWO
    assert tell(rollout, "b", ONE) == TWO
    assert rollout.versions() == {"1": 1, "2": 1}


def test_version_that_fails_is_given_up_and_reaches_no_other_replica():
    rollout = Rollout(ONE)
    rollout.offer(TWO)
    assert tell(rollout, "a", ONE) == TWO
    assert tell(rollout, "a", ONE, failed={"2": "damaged"}) == ONE
    assert tell(rollout, "b", ONE) == ONE
    assert rollout.failed == {"2": "damaged"}
    rollout.offer(THREE)
    assert tell(rollout, "b", ONE, failed={}) == THREE


def test_version_that_kills_its_replicas_is_given_up_after_two():
    rollout = Rollout(ONE)
    rollout.offer(TWO)
    now = 0.0
    for replica in ("a", "b"):
        tell(rollout, "other", None, now)
        assert tell(rollout, replica, ONE, now) == TWO
        now += SILENT_SECONDS + 1
    assert tell(rollout, "c", ONE, now) == ONE
    assert rollout.failed == {"2": "2 replicas died when they loaded it"}


def test_who_decides_anew_takes_what_is_served_for_good():
    """After a restart it knows only the version of long ago; the replicas are further."""
    rollout = Rollout(ONE)
    rollout.offer(THREE)
    assert tell(rollout, "a", TWO) == THREE
    assert tell(rollout, "a", TWO, failed={"3": "damaged"}) == TWO
    assert tell(rollout, "b", None) == TWO


def test_way_back_ends_a_trial():
    rollout = Rollout(ONE)
    tell(rollout, "a", ONE)
    rollout.offer(TWO)
    rollout.offer(ONE)
    assert tell(rollout, "a", ONE) == ONE
    assert rollout.wanted == "1"
