import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from sparsearch.errors import Stopped
from sparsearch.job.stop import StopRequest

LOOP = """
import sys, time
from sparsearch.errors import Stopped
from sparsearch.job.stop import StopRequest

try:
    with StopRequest() as stop:
        print("running", flush=True)
        while True:
            if sys.argv[1] == "check":
                stop.check()
            time.sleep(0.01)
except Stopped as error:
    print(error, flush=True)
    sys.exit(error.exit_code)
except KeyboardInterrupt:
    sys.exit("interrupted at once")
"""


def child(mode):
    command = [sys.executable, "-c", LOOP, mode]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "running\n"
    return process


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_at_the_next_check_with_its_exit_code(number, code):
    process = child("check")
    process.send_signal(number)
    output, _ = process.communicate(timeout=10)
    assert process.returncode == code
    assert output.startswith(f"stopped by {number.name}; ")
    assert "same command again" in output


def test_a_second_ctrl_c_interrupts_at_once():
    process = child("never check")
    process.send_signal(signal.SIGINT)
    time.sleep(0.1)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=10)
    assert "interrupted at once" in errors


def test_the_time_limit_stops_with_75():
    with StopRequest(time_limit=0.02) as stop:
        stop.check()
        assert not stop.requested
        time.sleep(0.03)
        assert stop.requested
        stop.check(progressed=False)
        with pytest.raises(Stopped, match=r"time limit of 0\.02 s; .*same command again") as caught:
            stop.check()
    assert caught.value.exit_code == 75


def test_handlers_are_put_back():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert signal.getsignal(signal.SIGINT) != before[signal.SIGINT]
        with pytest.raises(Stopped):
            stop.check()
    assert {number: signal.getsignal(number) for number in before} == before


def test_outside_the_main_thread_only_the_time_limit_counts():
    before = signal.getsignal(signal.SIGINT)
    codes = []

    def work():
        with StopRequest(time_limit=1e-9) as stop:
            assert signal.getsignal(signal.SIGINT) is before
            try:
                stop.check()
            except Stopped as error:
                codes.append(error.exit_code)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert codes == [75]
