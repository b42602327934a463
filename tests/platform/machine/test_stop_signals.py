"""Tests of what SIGTERM and SIGINT do: an exception with its exit code, or a note where someone waits for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from maskray.platform.machine.stop_signals import StopRequested, StopSignals


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)
    time.sleep(60)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_each_signal_has_its_exit_code(number: signal.Signals, code: int) -> None:
    before = signal.getsignal(number)
    with StopSignals() as signals:
        with pytest.raises(StopRequested) as caught:
            send(number)
        assert (caught.value.exit_code, signals.asked) == (code, number)
        assert str(caught.value) == f"stopped by {number.name}"
    assert signal.getsignal(number) == before


def test_the_first_signal_is_noted_where_it_is_waited_for_and_the_second_raises() -> None:
    with StopSignals() as signals, signals.waiting():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.1)
        assert signals.asked == signal.SIGTERM
        with pytest.raises(StopRequested):
            send(signal.SIGINT)


def test_signals_are_taken_back_from_who_took_them_meanwhile() -> None:
    """ray.init() takes SIGTERM, and its C++ part once more: a run ended with -6 and a stack."""
    before = signal.getsignal(signal.SIGTERM)
    with StopSignals() as signals:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signals.install()
        with pytest.raises(StopRequested):
            send(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == before


def test_an_ignored_interrupt_stays_ignored() -> None:
    """A shell has it ignored for what runs in the background: it is meant for who is in front."""
    code = (
        "import os, signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "from maskray.platform.machine.stop_signals import StopSignals\n"
        "with StopSignals() as signals:\n    os.kill(os.getpid(), signal.SIGINT); print(signals.asked)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout == "None\n", done.stderr


def test_another_thread_leaves_signals_alone() -> None:
    """As in a trial of a sweep."""
    handlers: list[object] = []

    def work() -> None:
        with StopSignals():
            handlers.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert handlers == [before]
