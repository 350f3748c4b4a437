"""StyleGAN2: hostile and damaged checkpoints, and wrong arguments.

Each hostile file would leave a mark if it were unpickled. None does, none is even read by the
pickle machine, and each message says what was refused.
"""

import io
import operator
import os
import pickle
import struct
import zipfile

import pytest
import stylegans
import torch
from hostile import BOMBS, DEEP, Evil, listening, new_torch, old_torch, refuser, repacked
from safetensors.torch import save_file
from torch import nn
from wrong import count_values, image_values, number_values

from cfxnb.spaces import StyleGAN2, load_stylegan2
from cfxnb.spaces.checkpoints.safe_loading import LEGACY
from cfxnb.spaces.checkpoints.safe_pickle import ALLOWED, MAX_INSTRUCTIONS, read_pickle
from cfxnb.spaces.checkpoints.stylegan2_files import read_checkpoint


@pytest.fixture(scope="module")
def state():
    return {k: v.clone() for k, v in stylegans.generator().state_dict().items()}


@pytest.fixture
def refused(tmp_path):
    return refuser(load_stylegan2, tmp_path / "evil.bin", most=500)


@pytest.fixture
def mark(tmp_path):
    """Source code that leaves a mark."""
    return f"__import__('pathlib').Path({str(tmp_path / 'mark')!r}).touch()"


def test_the_trap_works(mark, tmp_path):
    """Were it unpickled, the mark and the report would be there."""
    with listening() as heard:
        pickle.loads(pickle.dumps(Evil(eval, mark)))
    assert (tmp_path / "mark").exists()
    assert heard == ["pickle.find_class"]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("where", ["top", "G_ema", "augment_pipe", "beside"])
def test_calls_are_refused(refused, state, mark, protocol, where):
    evil = Evil(eval, mark)
    if where == "top":
        content = pickle.dumps(evil, protocol)
    elif where == "beside":
        content = stylegans.dumps(state, protocol=protocol, extra=[{"deep": (evil,)}])
    else:
        content = stylegans.dumps(state, protocol=protocol, **{where: evil})
    refused(content, "refused to import", "eval")


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (os.system, "posix.system"),
        (exec, "exec"),
        (getattr, "getattr"),
        (__import__, "__import__"),
        (type, "builtins.type"),
        (torch.load, "torch.serialization.load"),
        (torch.hub.load, "torch.hub.load"),
        (pickle.loads, "_pickle.loads"),
        (os.path.expanduser, "posixpath.expanduser"),
    ],
)
def test_functions_are_refused(refused, mark, function, name):
    refused(pickle.dumps(Evil(function, mark)), "refused to import", name)


def test_attributes_reached_through_others_are_refused(refused, mark):
    """``getattr`` from ``operator``, and names with dots, which protocol 4 would follow."""
    refused(
        pickle.dumps(operator.attrgetter("__globals__")), "refused to import operator.attrgetter"
    )
    # getattr(torch.storage._load_from_bytes, "__globals__")["eval"](mark), as far as it comes
    inner = b"cbuiltins\ngetattr\nctorch.storage\n_load_from_bytes\n" + text("__globals__")
    refused(
        b"\x80\x04coperator\ngetitem\n" + inner + b"\x86R.", "refused to import operator.getitem"
    )
    refused(b"\x80\x04" + inner + b"\x86R" + text(mark) + b"\x85R.", "builtins.getattr")
    for module, name in (
        ("collections", "OrderedDict.__init__.__globals__"),
        ("torch.storage", "_load_from_bytes.__globals__"),
        ("torch", "float32.__class__.__base__.__subclasses__"),
        ("dnnlib", "util.EasyDict.update"),
    ):
        refused(b"\x80\x04" + text(module) + text(name) + b"\x93.", "refused to import", name)


def text(value):
    """The instruction that pushes a text."""
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def test_subclasses_are_refused(refused, mark):
    """A class made in the file, whose ``__reduce__`` or ``__setstate__`` would run later."""
    evil = Evil(type, "X", (dict,), {"__setstate__": Evil(eval, f"lambda s, t: {mark}")})
    made = pickle.dumps(evil, 2)[:-1]  # without its end
    for use in (b")\x81}b.", b")R}b.", b"."):
        refused(made + use, "refused to import __builtin__.type")


class Storage(Evil):
    """A tensor whose numbers are ``raw`` bytes, as PyTorch pickles it."""

    def __init__(self, raw, offset=0, size=(2,), step=(1,)):
        storage = Evil(torch.storage._load_from_bytes, raw)
        super().__init__(torch._utils._rebuild_tensor_v2, storage, offset, size, step, False, {})


def with_weight(state, value):
    """NVIDIA's format with something else where one weight should be."""
    whole = stylegans.tree(stylegans.with_filters(state), "")
    mapping = whole.meta["state"]["_modules"]["mapping"]
    mapping.meta["state"]["_modules"]["fc0"].meta["state"]["_parameters"]["weight"] = value
    return stylegans.written({"G_ema": whole})


@pytest.mark.parametrize("kind", ["old", "new", "pickle", "prefixed"])
def test_storages_that_are_pickles_are_refused(refused, state, mark, kind):
    evil = Evil(eval, mark)
    raw = {
        "old": old_torch(evil),
        "new": new_torch(evil),
        "pickle": pickle.dumps(evil),
        "prefixed": LEGACY + pickle.dumps(evil, 2) * 4,
    }[kind]
    told = {"old": "refused to import eval", "prefixed": "refused to import eval"}
    refused(with_weight(state, Storage(raw)), told.get(kind, "a storage that is no torch file"))
    # Elsewhere nobody opens it: the same bytes beside the generator do nothing.
    read = io.BytesIO(stylegans.dumps(state, D=Storage(raw)))
    assert read_pickle(read).keys() >= {"G_ema", "D"}


def test_what_a_storage_may_hold(refused, state):
    refused(with_weight(state, Storage(old_torch([1, 2]))), "a storage that is a list")
    refused(with_weight(state, Storage(old_torch(torch.zeros(2)))), "a storage that is a Tensor")
    refused(with_weight(state, Storage("text")), "an entry that is no tensor")
    for wrong in (3, "weight", [1.0], {}, Evil(torch.storage._load_from_bytes, b"")):
        refused(with_weight(state, wrong), "an entry that is no tensor")


@pytest.mark.parametrize(
    ("view", "told"),
    [
        ((0, (1000,), (1,)), "not within its storage"),
        ((7, (2,), (1,)), "not within its storage"),
        ((-1, (2,), (1,)), "not within its storage"),
        ((0, (-2,), (1,)), "not within its storage"),
        ((0, (2,), (-1,)), "not within its storage"),
        ((0, (2**62, 2**62), (0, 0)), "not within its storage"),
        ((0, (10**13,), (0,)), "larger than its storage"),
        ((0, ("a",), (1,)), "not within its storage"),
        ((None, None, None), "not within its storage"),
    ],
)
def test_tensors_lie_within_their_storage(refused, state, view, told):
    raw = old_torch(torch.zeros(8)._typed_storage())
    refused(with_weight(state, Storage(raw, *view)), told)


def test_numpy_objects_stay_inert(refused, state, mark, tmp_path):
    """A scalar of objects would unpickle what it holds; here it is only a note."""
    import numpy as np

    scalar = np.float64(1).__reduce__()[0]
    evil = Evil(scalar, np.dtype("O"), pickle.dumps(Evil(eval, mark)))
    (tmp_path / "inert.pkl").write_bytes(stylegans.dumps(state, D=evil))
    assert read_checkpoint(tmp_path / "inert.pkl").keys() == state.keys()
    assert not (tmp_path / "mark").exists()
    refused(with_weight(state, evil), "an entry that is no tensor")
    refused(pickle.dumps(np.zeros(2)), "refused to import", "multiarray._reconstruct")
    array = np.array([Evil(eval, mark)], dtype=object)
    refused(stylegans.dumps(state, D=array), "refused to import", "_reconstruct")
    built = np.dtype([("a", "f8")])  # a state with names, set by BUILD: ignored
    assert read_pickle(io.BytesIO(pickle.dumps({"a": built})))["a"].name == "numpy.dtype"


NAMED = b"ctorch_utils.persistence\n_reconstruct_persistent_obj\n"
EASY = b"cdnnlib.util\nEasyDict\n"
EXEC = b"cbuiltins\nexec\n"


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (b"Pos.system\n.", "refused the pickle instruction PERSID"),
        (b"K\x01Q.", "refused the pickle instruction BINPERSID"),
        (b"(ios\nsystem\n.", "refused the pickle instruction INST"),
        (b"(" + EASY + b"o.", "refused the pickle instruction OBJ"),
        (b"\x82\x01.", "refused the pickle instruction EXT1"),
        (EASY + b")}\x92.", "refused the pickle instruction NEWOBJ_EX"),
        (b"\x97.", "refused the pickle instruction NEXT_BUFFER"),
        (b"I1\n.", "refused the pickle instruction INT"),
        (b")p0\n.", "refused the pickle instruction PUT"),
        (b"S" + b"long" * 1000 + b"\n.", "longlong"),
        (NAMED + b"}b.", "refused to set attributes of torch_utils.persistence"),
        (EASY + b"}b.", "refused to set attributes of dnnlib.util.EasyDict"),
        (EASY + b"N}\x86b.", "refused to set attributes of dnnlib.util.EasyDict"),
        (b"ctorch.storage\n_load_from_bytes\n)R}b.", "refused to set attributes of torch.storage"),
        (b"]}b.", "refused to set attributes of list"),
        (b"K\x01)R.", "refused to call a int"),
        (NAMED + b")R)R.", "refused to call a Call"),
        (b"})R.", "refused to call a dict"),
        (EXEC + b")R.", "refused to import builtins.exec"),
        (NAMED + b"]R.", "list instead of tuple"),
        (b"}" + b"]K\x01s.", "refused a list as a key"),
        (b"}" + NAMED + b"K\x01s.", "refused a Name as a key"),
        (b"]K\x01K\x02s.", "list instead of dict"),
        (b"}K\x01a.", "dict instead of list"),
        (b"}(K\x01u.", "a damaged pickle"),
        (b"K\x01K\x02\x93.", "int instead of str"),
        (b"cone\n.", ""),
        (b".", "a damaged pickle: IndexError"),
        (b"R.", "a damaged pickle: IndexError"),
        (b"t.", "a damaged pickle: IndexError"),
        (b"h\x09.", "a damaged pickle: KeyError"),
        (b"K", ""),
        (b"\xff.", ""),
        (b"K\x01.", "a int instead of a dict with 'G_ema'"),
        (b"].", "a list instead of a dict with 'G_ema'"),
        (b"}.", "no 'G_ema' in it, only []"),
    ],
)
def test_instructions_are_refused(refused, code, told):
    refused(b"\x80\x04" + code, told)


@pytest.mark.parametrize("name", sorted(ALLOWED))
def test_the_allowed_names_do_nothing_either(name, mark):
    """With any arguments, each is a note, a dict or bytes."""
    module, _, attribute = name.rpartition(".")
    code = f"c{module}\n{attribute}\n".encode()
    for args in (b")", text(mark) + b"\x85", text(mark) + text("latin1") + b"\x86"):
        for call in (b"R", b"\x81"):
            made = read_pickle(io.BytesIO(b"\x80\x04" + code + args + call + b"."))
            assert type(made).__name__ in ("Call", "dict", "bytes")


@pytest.mark.parametrize(
    ("code", "told"),
    [
        # Nested tuples as a key would crash Python itself, which hashes them by recursion.
        (b"})" + b"\x85" * DEEP + b"K\x01s.", "refused tuples within tuples"),
        (b"})" + b"\x85" * 9_000 + b"K\x01s.", "refused a tuple as a key"),
        (b"K\x01" + b"q\x01h\x01h\x01\x87" * 60 + b".", "refused tuples within tuples"),
        (b")" + b"\x85" * 9_000 + b".", "a tuple instead of a dict"),
        (b"]" * DEEP + b"a" * (DEEP - 1) + b".", "a list instead of a dict"),
        (b"(" * DEEP + b"t" * DEEP + b".", "refused tuples within tuples"),
        (b"N" * (MAX_INSTRUCTIONS + 1) + b".", f"more than {MAX_INSTRUCTIONS} instructions"),
        (b"]r\xff\xff\xff\xff.", "a list instead of a dict"),
        (b"\x8e" + struct.pack("<Q", 2**62) + b"abc.", ""),
        (b"\x8d" + struct.pack("<Q", 2**63 - 1) + b"abc.", ""),
        (b"B\xff\xff\xff\xffabc.", ""),
        (b"\x95" + struct.pack("<Q", 2**62) + b"K\x01.", "a int instead of a dict"),
        (b"\x8b\xff\xff\xff\x7fabc.", ""),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else None,
)
def test_bombs_are_refused(refused, code, told):
    refused(b"\x80\x04" + code, told)


def test_networks_that_contain_themselves_are_refused(refused):
    wide = stylegans.Persistent("Module", "", {}, {}, {})
    for _ in range(12):
        wide = stylegans.Persistent("Module", "", {}, {}, {f"p{i}": wide for i in range(20)})
    refused(stylegans.written({"G_ema": wide}), "a network of more than 1000 modules")
    # By hand: 7 is a dict of parts, 8 the module that has them, which then becomes one of them.
    entries = text("_parameters") + b"}s" + text("_buffers") + b"}s" + text("_modules") + b"h\x07s"
    module = NAMED + b"}" + text("state") + b"}" + entries + b"s\x85Rq\x08"
    loop = text("y") + b"h\x07" + text("a") + b"h\x08ss"
    whole = b"\x80\x04}" + text("x") + b"}q\x07s" + text("G_ema") + module + b"s" + loop + b"."
    refused(whole, "a network of more than 1000 modules")


def test_files_of_tensorflow_are_named(refused):
    refused(b"\x80\x03cdnnlib.tflib.network\nNetwork\n)\x81.", "dnnlib.tflib.network.Network")


@pytest.mark.parametrize("kind", [old_torch, new_torch])
def test_hostile_torch_files_are_refused(refused, state, mark, kind):
    for function, told in ((eval, "eval"), (os.system, "system"), (getattr, "getattr")):
        refused(kind(Evil(function, mark)), "refused to import", told)
        refused(kind({"g_ema": {}, "args": Evil(function, mark)}), "refused to import", told)
    reached = {"g_ema": {"input.input": Evil(exec, mark)}, "latent_avg": torch.zeros(3)}
    refused(kind(reached), "refused to import", "exec")


@pytest.mark.parametrize("name", BOMBS)
@pytest.mark.parametrize("kind", ["old", "new", "storage"])
def test_tuples_that_crash_torch_are_refused(refused, state, name, kind):
    """Torch's restricted reader takes them, and the interpreter ends without a message."""
    bomb = b"\x80\x02" + BOMBS[name]
    if kind == "new":
        content = repacked(new_torch({"g_ema": {}}), {"data.pkl": bomb})
    else:
        content = LEGACY + pickle.dumps(1001, 2) + pickle.dumps({}, 2) + bomb
    if kind == "storage":
        content = with_weight(state, Storage(content))
    refused(content, "refused tuples within tuples")


def test_archives_with_two_contents_are_refused(refused):
    content = new_torch({"g_ema": {}})
    buffer = io.BytesIO(content)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr(archive.namelist()[0].upper(), b"\x80\x02}.")
    refused(buffer.getvalue(), "two entries of one name")


def test_compressed_archives_are_refused(refused):
    """A megabyte of zeros takes a kilobyte, and a terabyte a gigabyte."""
    content = new_torch({"g_ema": {"a": torch.zeros(250_000)}})
    refused(repacked(content, {}, zipfile.ZIP_DEFLATED), "a compressed archive")
    empty = io.BytesIO()
    with zipfile.ZipFile(empty, "w") as archive:
        archive.writestr("readme", "hello")
    refused(empty.getvalue(), "torch fails")


def test_too_large_a_file_is_refused(refused, tmp_path):
    with (tmp_path / "evil.bin").open("wb") as file:
        file.truncate(2 * 2**30 + 1)  # takes no room on disk
    refused(None, "at most 2 GiB", "2.0 GiB")


@pytest.fixture(scope="module")
def sound(state, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sound")
    save_file(state, folder / "x")
    return {
        "nvidia": stylegans.dumps(state),
        "new torch": new_torch({"g_ema": state}),
        "old torch": old_torch({"g_ema": state}),
        "safetensors": (folder / "x").read_bytes(),
    }


@pytest.mark.parametrize("kind", ["nvidia", "new torch", "old torch", "safetensors"])
def test_damaged_files(refused, sound, kind):
    whole = sound[kind]
    for length in (1, 3, 9, 17, 100, len(whole) // 2, len(whole) - 1):
        refused(whole[:length])
    refused(b"\x00" * len(whole))


@pytest.mark.parametrize(
    "content",
    [b"", b"hello, world", b"<html></html>", b"\x89PNG\r\n\x1a\n", b"\x1f\x8b", b"\n" * 99],
)
def test_files_of_another_kind(refused, content):
    refused(content, "an empty file" if not content else "a file that begins with")


def edited(state, **changes):
    """A copy; None removes a tensor, a function changes it."""
    copy = dict(state)
    for key, change in changes.items():
        key = key.replace("__", ".")
        if change is None:
            del copy[key]
        else:
            copy[key] = change(copy[key]) if callable(change) else change
    return copy


CHANGES = {
    "missing": ({"synthesis__b8__conv1__bias": None}, "lacks 1 of the generator's tensors"),
    "unknown": ({"synthesis__b8__skip__weight": torch.zeros(2)}, "has unknown 1 of"),
    "no noise": ({"synthesis__b4__conv1__noise_const": None}, "b4.conv1.noise_const"),
    "no mapping": ({"mapping__fc0__weight": None}, "another network"),
    "gap": ({"synthesis__b8__conv1__weight": None}, "of the generator's tensors"),
    "NaN": ({"mapping__fc1__bias": lambda t: t * torch.nan}, "mapping.fc1.bias has NaN"),
    "infinite": ({"mapping__fc1__bias": lambda t: t / 0}, "mapping.fc1.bias has NaN or infinity"),
    "shape": (
        {"mapping__fc1__bias": lambda t: t[:5]},
        "mapping.fc1.bias has shape (5,), not (12,)",
    ),
    "side": ({"synthesis__b8__conv1__noise_const": torch.zeros(9, 9)}, "has shape (9, 9)"),
    "flat": ({"synthesis__b4__conv1__weight": torch.zeros(3)}, "another network"),
    "conditional": ({"mapping__embed__weight": torch.zeros(2, 2)}, "class-conditional"),
    "filter": ({"synthesis__b8__resample_filter": torch.ones(4, 4)}, "is another filter"),
    "long filter": ({"synthesis__b8__resample_filter": torch.ones(6, 6)}, "is another filter"),
    "double": ({"mapping__fc0__bias": torch.zeros(5, dtype=torch.float64)}, "has shape (5,)"),
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("kind", ["nvidia", "torch", "safetensors"])
def test_other_networks_are_told(refused, state, tmp_path, name, kind):
    changes, told = CHANGES[name]
    if kind == "nvidia":
        # The writer adds the filters itself, after which the wrong one counts.
        whole = edited({**stylegans.with_filters(state)}, **changes)
        content = stylegans.written({"G_ema": stylegans.tree(whole, "")})
    elif kind == "torch":
        content = new_torch({"g_ema": edited(state, **changes)})
    else:
        save_file(edited(state, **changes), tmp_path / "x")
        content = (tmp_path / "x").read_bytes()
    refused(content, told)


def test_networks_of_another_family_are_told(refused, state):
    refused(new_torch(nn.Linear(2, 2).state_dict()), "no 'g_ema' in it, only ['weight', 'bias']")
    refused(new_torch({"d": state}), "no 'g_ema' in it, only ['d']")
    refused(new_torch([1, 2]), "a list instead of a dict with 'g_ema'")
    refused(new_torch({"g_ema": nn.Linear(2, 2).state_dict()}), "parts ['bias', 'weight']")
    refused(new_torch({"g_ema": {}}), "another network, with parts []")
    refused(new_torch({"g_ema": {"input.input": 3}}), "is a int instead of a plain tensor")
    refused(new_torch({"g_ema": {"a": torch.zeros(2, device="meta")}}), "a tensor on meta")
    refused(new_torch({"g_ema": {"a": torch.zeros(1).expand(10**9)}}), "larger than its storage")
    refused(new_torch({"g_ema": {"a": torch.zeros(2).to_sparse()}}), "instead of a plain tensor")
    only = stylegans.tree(state, "")
    refused(stylegans.written({"D": only}), "no 'G_ema' in it, only ['D']")
    refused(stylegans.written({"G_ema": None, "D": only}), "no 'G_ema' in it")
    refused(stylegans.written({"G_ema": stylegans.EasyDict(a=1)}), "no 'G_ema' in it")
    other = stylegans.tree({"synthesis.L0_36_512.weight": torch.zeros(2)}, "")  # StyleGAN3's names
    refused(stylegans.written({"G_ema": other}), "another network, with parts ['synthesis']")


@pytest.mark.parametrize("path", [None, 3, b"net.pkl", ["net.pkl"], io.BytesIO(b"")])
def test_paths_of_another_type(path):
    with pytest.raises(TypeError, match=rf"path: expected .*, got {type(path).__name__}"):
        load_stylegan2(path)


def test_paths_that_lead_nowhere(tmp_path):
    with pytest.raises(ValueError, match=r"path: expected .*: a folder"):
        load_stylegan2(tmp_path)
    for path in (tmp_path / "net.pkl", str(tmp_path / "net.pkl"), "", "no\0file"):
        with pytest.raises(ValueError, match=r"path: expected .*: (nothing there|a folder)"):
            load_stylegan2(path)


@pytest.fixture(scope="module")
def space():
    return StyleGAN2(stylegans.generator(), w_avg_samples=20)


@pytest.fixture(scope="module")
def images(space):
    return space.decode(space.sample(2))


WRONG = {
    "images": image_values((2, 3, 16, 16)),
    "steps": count_values(0, -1),
    "lr": number_values(0.0, -0.1),
    "n_starts": count_values(-1),
    "distance_weight": number_values(-1.0),
    "batch_size": count_values(0),
    "seed": count_values(-1),
    "distance": {"text": ("lpips", "str"), "number": (1, "int")},
    "on_step": {"text": ("bar", "str")},
}


@pytest.mark.parametrize(
    ("name", "kind"), [(name, kind) for name, kinds in WRONG.items() for kind in kinds]
)
def test_wrong_arguments_of_project(space, images, name, kind):
    value, told = WRONG[name][kind]
    with pytest.raises((ValueError, TypeError)) as caught:
        space.project(**{"images": images, "steps": 1, "n_starts": 1} | {name: value})
    assert str(caught.value).startswith(f"{name}: expected ")
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("returned", "told"),
    [(0.5, "float"), (torch.zeros(2, 1), "(2, 1)"), (torch.full((2,), torch.nan), "NaN")],
)
def test_wrong_distances(space, images, returned, told):
    with pytest.raises((ValueError, TypeError), match="distance: expected") as caught:
        space.project(images, distance=lambda a, b: returned)
    assert told in str(caught.value)


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (2, 1, 16, 16)])
def test_images_of_another_shape(space, shape):
    with pytest.raises(ValueError, match=r"images: expected shape \(b, 3, 16, 16\)"):
        space.encode(torch.full(shape, 0.5))


def test_codes_of_another_space(space):
    others = [StyleGAN2(space.net, latent, w_avg_samples=2) for latent in ("w+", "s")]
    for one in (space, *others):
        for other in {space, *others} - {one}:
            with pytest.raises(ValueError, match="code: expected z of shape"):
                one.decode(other.sample(1))


def test_wrong_arguments(space, tmp_path):
    net, styles = space.net, torch.zeros(1, len(space.net.in_rgb))
    with pytest.raises(ValueError, match=r"latent: expected one of .*got 'z'"):
        StyleGAN2(net, "z")
    with pytest.raises(ValueError, match=r"latent: expected one of .*got 'z'"):
        load_stylegan2(tmp_path, latent="z")
    with pytest.raises(TypeError, match="net: expected a StyleGAN2 Generator, got Linear"):
        StyleGAN2(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="w_avg_samples: expected"):
        StyleGAN2(net, w_avg_samples=1)
    with pytest.raises(TypeError, match="projection: expected dict"):
        StyleGAN2(net, projection=["steps"])
    with pytest.raises(ValueError, match="truncation_psi: expected"):
        space.sample(1, truncation_psi=-0.5)
    with pytest.raises(ValueError, match="n_samples: expected"):
        space.sample(-1)
    with pytest.raises(ValueError, match="device: expected one that torch has here"):
        load_stylegan2(tmp_path, device="toaster")
    for noise in ("random", [], [torch.zeros(4, 4)] * 5):
        with pytest.raises(ValueError, match="noise: expected"):
            net.render(styles, noise)
    with pytest.raises(TypeError, match="noise: expected"):
        net.render(styles, 3)
