"""The launcher of a training's processes: python -m tasks.train.launch SPEC.json.

It runs torch's own launcher in this process, one rank per GPU, on the loopback interface. It ends
when the runner ends, and its ranks end when it ends.
"""

import os
import sys
import traceback
from pathlib import Path
from typing import NoReturn

from tasks.train.processes import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    PARENT_VARIABLE,
    end_with_parent,
)


def main(spec_path: Path) -> int:
    """Runs all ranks to their end; gives the exit status."""
    end_with_parent()
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    from tasks.train.events import read_status
    from tasks.train.spec import read_spec

    spec = read_spec(spec_path)
    config = spec.config.train
    os.environ[PARENT_VARIABLE] = str(os.getpid())
    # torch's launcher kills ranks this long after it passed SIGTERM on; they end themselves before.
    os.environ["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"] = str(int(config.grace_seconds) + 5)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    os.environ.setdefault("NCCL_SOCKET_IFNAME", "lo")
    arguments = [
        *("--standalone", f"--nproc-per-node={config.processes}", "--local-addr=127.0.0.1"),
        *(f"--log-dir={os.devnull}", "--max-restarts=0"),
        *("-m", "tasks.train.child", str(spec_path)),
    ]
    try:
        torchrun(arguments)
    except SignalException:
        return EXIT_INTERRUPTED
    except ChildFailedError as error:
        interrupted = read_status(spec.workspace).get("state") == "interrupted"
        if not interrupted:
            sys.stderr.write(f"{error}\n")
        return EXIT_INTERRUPTED if interrupted else EXIT_FAILED
    return 0


def end(status: int) -> NoReturn:
    """Ends this process now; all its ranks have ended before.

    An ordinary exit would wait for torch's log threads, which a signal can leave running for ever.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    try:
        status = main(Path(sys.argv[1]))
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else EXIT_FAILED
    except BaseException:
        traceback.print_exc()
        status = EXIT_FAILED
    end(status)
