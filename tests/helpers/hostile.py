"""Files that would do harm if they were unpickled, and an ear for what happens while reading."""

import contextlib
import io
import re
import sys
import time
import zipfile

import pytest
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


def refuser(load, path, most):
    """Asserts that ``load`` refuses a file, with a message of at most so many letters.

    The message has each of ``told``, it comes soon, and nothing ran: nothing was looked up to be
    called, and there is no file ``mark``.
    """

    def check(content, *told):
        if content is not None:
            path.write_bytes(content)
        began = time.process_time()  # however busy the machine is
        wanted = rf"^path: expected .*, got .*{re.escape(path.name)}: ."
        with listening() as heard, pytest.raises(ValueError, match=wanted) as caught:
            load(path, device="cpu")
        message = str(caught.value)
        assert len(message) < most
        assert [part for part in told if part not in message] == [], message
        assert not path.with_name("mark").exists()
        assert not heard
        assert time.process_time() - began < 5

    return check


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
