"""What each of several processes does: ``torchrun several_processes.py FOLDER [killed]``.

With "killed", the process with rank 1 finishes one shard and kills itself while it writes the next.
"""

import os
import signal
import sys
import time
from pathlib import Path

from accelerate import PartialState
from stream_scenes import SHARD, F, Pairs, attack

import cfxnb as cfx


def main() -> None:
    folder, killed = Path(sys.argv[1]), sys.argv[2:] == ["killed"]
    state = PartialState(cpu=True)
    plain, written = cfx.Counterfactuals.save, 0

    def save(self, path):
        nonlocal written
        written += 1
        if killed and state.process_index == 1 and written == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return plain(self, path)

    class Slow(Pairs):
        """The main process waits after the first shard, so that the other one is killed first."""

        def __getitem__(self, row):
            while killed and state.is_main_process and row >= SHARD:
                time.sleep(0.1)
            return super().__getitem__(row)

    cfx.Counterfactuals.save = save
    found = attack(Slow(), cfx.from_item(1), output_dir=folder)
    if state.is_main_process:
        table = cfx.report({"attack": found}, judge=F)
        print(f"{state.num_processes} processes, {len(found)} images, {found.complete}")
        print(f"flip rate {table['flip rate'].iloc[0]:.6f}")
    state.wait_for_everyone()
    state.destroy_process_group()


if __name__ == "__main__":
    main()
