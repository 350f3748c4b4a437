"""What each of several processes does: ``torchrun several_processes.py FOLDER FATAL``.

The process with rank 1 kills itself while it writes shard FATAL or a later one (-1: never).
"""

import os
import signal
import sys
import time
from pathlib import Path

from accelerate import PartialState
from stream_scenes import F, Pairs, attack

import cfxnb as cfx


def main() -> None:
    folder, fatal = Path(sys.argv[1]), int(sys.argv[2])
    state = PartialState(cpu=True)
    plain = cfx.Counterfactuals.save

    def save(self, path):
        if state.process_index == 1 and 0 <= fatal <= int(Path(path).stem):
            os.kill(os.getpid(), signal.SIGKILL)
        return plain(self, path)

    class Slow(Pairs):
        """Read slowly by the main process, so that the other one gets its share."""

        def __getitem__(self, row):
            time.sleep(0.1 * (state.is_main_process and fatal >= 0))
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
