import os
import signal
import socket
import subprocess
import sys

import pytest

from sparsearch.errors import ConflictError, ResourceError
from sparsearch.job.lock import HOLDER_NAME, RunLock, is_locked

HOLD = """
import sys
from sparsearch.job.lock import RunLock

with RunLock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def run_dir(tmp_path):
    return tmp_path / "run"


@pytest.fixture
def holder(run_dir):
    command = [sys.executable, "-c", HOLD, str(run_dir)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "held\n"
        yield child
        child.kill()


def test_a_second_process_is_told_who_holds_the_folder(run_dir, holder):
    with pytest.raises(ConflictError) as caught, RunLock(run_dir):
        pass
    assert f"{run_dir} is in use by process {holder.pid} on {socket.gethostname()}; wait" in str(caught.value)
    assert caught.value.exit_code == 3
    assert is_locked(run_dir)


def test_the_lock_is_free_after_the_holder_ends(run_dir, holder):
    holder.communicate("\n")
    assert not is_locked(run_dir)
    assert not (run_dir / HOLDER_NAME).exists()
    with RunLock(run_dir):
        assert is_locked(run_dir)


def test_the_lock_is_free_after_kill_9(run_dir, holder):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert not is_locked(run_dir)
    with RunLock(run_dir), pytest.raises(ConflictError, match=f"process {os.getpid()} "), RunLock(run_dir):
        pass


def test_a_folder_that_never_ran_is_not_locked_and_not_made(run_dir):
    assert not is_locked(run_dir)
    assert not run_dir.exists()


def test_a_failure_inside_releases_the_lock(run_dir):
    with pytest.raises(RuntimeError), RunLock(run_dir):
        raise RuntimeError
    assert not is_locked(run_dir)


def test_a_garbled_holder_does_not_hide_the_conflict(run_dir):
    with RunLock(run_dir):
        (run_dir / HOLDER_NAME).write_text("[")
        with pytest.raises(ConflictError, match="another process"), RunLock(run_dir):
            pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ResourceError, match="run"), RunLock(tmp_path / "run"):
        pass
