"""Files that would do harm if they were unpickled, and an ear for what happens while reading."""

import contextlib
import io
import sys
import zipfile

import torch

HEARD = []  # what the interpreter reports while somebody listens
RUNS = {"pickle.find_class", "os.system", "os.exec", "os.posix_spawn", "subprocess.Popen"}
LISTENING = [False]
sys.addaudithook(lambda event, _: HEARD.append(event) if LISTENING[0] and event in RUNS else None)
DEEP = 150_000


@contextlib.contextmanager
def listening():
    """Gives the list of what was heard, which fills meanwhile."""
    HEARD.clear()
    LISTENING[0] = True
    try:
        yield HEARD
    finally:
        LISTENING[0] = False


class Evil:
    """Calls ``function`` when it is unpickled."""

    def __init__(self, function, *args, state=None):
        self.reduced = (function, args) if state is None else (function, args, state)

    def __reduce__(self):
        return self.reduced


def old_torch(value):
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def new_torch(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def repacked(content, changes, compression=zipfile.ZIP_STORED):
    """A torch file with other entries; ``changes`` by the end of the name."""
    source, buffer = zipfile.ZipFile(io.BytesIO(content)), io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name in source.namelist():
            end = name.rpartition("/")[2]
            archive.writestr(name, changes.get(end, source.read(name)))
    return buffer.getvalue()


#: Torch's restricted reader takes these, and the interpreter ends without a message.
BOMBS = {
    "as a key": b"})" + b"\x85" * DEEP + b"K\x01s.",
    "as a key of an ordered dict": (
        b"ccollections\nOrderedDict\n])" + b"\x85" * DEEP + b"K\x01\x86a\x85R."
    ),
    "by references": b"})" + b"q\x01h\x01h\x01\x87" * 60 + b"K\x01s.",
}
