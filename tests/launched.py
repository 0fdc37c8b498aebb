"""The processes of a launch as forks of this one, which has imported everything: gloo on 127.0.0.1, nothing faked.

A child finds in its environment what `accelerate launch` and `torchrun` put there.
"""

import json
import os
import signal
import socket
import tempfile
import traceback
import warnings
from pathlib import Path

import accelerate.utils  # noqa: F401 - once, before the forks


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def launched(count, work, limit=120):
    """What `work(index)` gives in each of `count` processes, as JSON; the text of its error, or -9 where it was killed.

    `work` is called where the processes have not met yet.
    """
    port, children = free_port(), []
    with tempfile.TemporaryDirectory() as folder:
        answers = [Path(folder) / str(index) for index in range(count)]
        for index, answer in enumerate(answers):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                child = os.fork()
            if child == 0:
                _child(index, count, port, work, answer, limit)
            children.append(child)
        ended = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        codes = zip(answers, ended, strict=True)
        return [json.loads(answer.read_text()) if code == 0 else code for answer, code in codes]


def _child(index, count, port, work, answer, limit):
    status = 1
    try:
        signal.alarm(limit)
        os.environ |= {
            "RANK": str(index), "LOCAL_RANK": str(index), "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count),
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true",
            "GLOO_SOCKET_IFNAME": "lo",
        }  # fmt: skip
        try:
            told = work(index)
        except Exception as error:
            told = f"{type(error).__name__}: {error}"
        answer.write_text(json.dumps(told))
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)
