"""The project itself: dependencies, forbidden calls, layers, docstrings."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import cfxnb as cfx

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "cfxnb").rglob("*.py"))
FORBIDDEN = {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "torchvision"}


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def required():
    """Names of everything a clone needs: dependencies and the extras 'course' and 'test'."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    listed = [*project["dependencies"], *extras["course"], *extras["test"]]
    return {normal(re.match(r"[\w.-]+", line)[0]): line for line in listed}


def locked():
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {normal(name): version.strip() for name, version in pairs}


def environment(path):
    """The pip lines of an environment.yml, without the project itself."""
    lines = [line.strip() for line in (ROOT / path).read_text().splitlines()]
    pins = [line[2:] for line in lines if "==" in line]
    return dict(sorted((normal(n), v) for n, v in (p.split("==") for p in pins)))


def version(text):
    return tuple(int(n) for n in re.findall(r"\d+", text))


def test_lock_satisfies_the_requirements():
    pins = locked()
    for name, line in required().items():
        assert name in pins, f"{name} is not in requirements.lock"
        for operator, bound in re.findall(r"(>=|<)([\d.]+)", line):
            at_least = version(pins[name]) >= version(bound)
            assert at_least == (operator == ">="), f"{line}, locked at {pins[name]}"


@pytest.mark.parametrize("path", ["environment.yml", "binder/environment.yml"])
def test_environments_are_the_requirements_at_the_locked_versions(path):
    pins = locked()
    names = set(required())
    expected = {name: pins[name] for name in names}
    found = environment(path)
    # pandas-stubs and the like are for developers, but one list is easier to keep than two.
    assert found == dict(sorted(expected.items()))


def test_both_environments_have_one_python_and_one_channel():
    def head(path):
        lines = (ROOT / path).read_text().splitlines()
        return [line for line in lines if "==" not in line and "-e ." not in line]

    assert head("environment.yml") == head("binder/environment.yml")


def module_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def tree(path):
    return ast.parse(path.read_text(), str(path))


def imports(path):
    """(module, line, imported inside a function) for every import of a file."""
    found = []

    def visit(node, inside):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                found.extend((a.name, child.lineno, inside) for a in child.names)
            if isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{path}: relative import"
                found.append((child.module, child.lineno, inside))
                found.extend(
                    (f"{child.module}.{a.name}", child.lineno, inside) for a in child.names
                )
            deeper = inside or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
            visit(child, deeper)

    visit(tree(path), False)
    return found


def below(name, package):
    return name == package or name.startswith(f"{package}.")


each_source = pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))


@each_source
def test_nothing_executes_what_is_in_a_file(path):
    for name, line, _ in imports(path):
        assert name.split(".")[0] not in FORBIDDEN, f"line {line} imports {name}"
        assert not below(name, "torch.hub"), f"line {line} imports {name}"
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Attribute):
            assert ast.unparse(node) != "torch.hub", f"line {node.lineno}: torch.hub"
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in {"eval", "exec", "compile"}, f"line {node.lineno}: {called}"
            if called in {"torch.load", "np.load", "numpy.load"}:
                given = {k.arg: ast.unparse(k.value) for k in node.keywords}
                safe = given.get("weights_only") == "True" or given.get("allow_pickle") == "False"
                assert safe, f"line {node.lineno}: {called} without weights_only=True"


@each_source
def test_no_assert(path):
    """An assert says nothing to the caller, and 'python -O' removes it."""
    lines = [n.lineno for n in ast.walk(tree(path)) if isinstance(n, ast.Assert)]
    assert not lines


#: What each room of the house may import, besides itself. Nothing of it goes upwards.
MAY_IMPORT = {
    "core": (),
    "nets": ("core",),
    "data": ("core",),
    "spaces": ("core", "nets"),
    "attacks": ("core",),
    "attribution": ("core",),
    "contrastive": ("core",),
    "diffusion": ("core",),
    "directions": ("core",),
    "flows": ("core",),
    "repair": ("core", "attacks", "diffusion"),  # explains errors by what others found
    "metrics": ("core", "nets", "data", "attribution", "contrastive"),
    "plots": ("core", "attribution", "contrastive", "directions", "metrics"),
    "weights": ("core", "nets", "data", "spaces", "contrastive", "flows"),
    "explanation": (
        "core",
        "nets",
        "data",
        "spaces",
        "attacks",
        "attribution",
        "diffusion",
        "directions",
        "flows",
        "metrics",
        "weights",
    ),
    "checks": ("core", "data", "attacks", "contrastive", "diffusion", "flows", "weights"),
    "solutions": ("core", "data", "spaces", "metrics"),  # written from notebooks/sources
    "course": ("core", "data", "plots", "checks", "solutions"),
    "interactive": (
        "core",
        "data",
        "attacks",
        "diffusion",
        "directions",
        "flows",
        "metrics",
        "plots",
    ),
    "evaluation": (
        "core",
        "data",
        "attacks",
        "diffusion",
        "directions",
        "flows",
        "metrics",
        "weights",
    ),
    "build": ("course",),
    "cli": None,  # the commands; they may use everything, and only __main__ uses them
    "methods": ("core",),  # old places, for one version
}
#: Results show themselves: they load their pictures when somebody looks.
SHOWN = {"core.results": "plots", "attribution.result": "plots"}


def room(name):
    """The room of a module: ``cfxnb.core.ddim`` -> ``core``; "" for the package itself."""
    return [*name.split("."), ""][1]


@each_source
def test_layers(path):
    """Each room imports only what lies below it; ``train`` may use everything, and only the
    commands use it."""
    module = module_of(path)
    own = room(module)
    if own in ("", "train", "cli", "__main__"):
        allowed = {*MAY_IMPORT, "train"} if own else set(MAY_IMPORT) - {"build"}
    else:
        allowed = {own, *MAY_IMPORT[own]}
    for name, line, inside in imports(path):
        if not below(name, "cfxnb") or not room(name):
            continue
        shown = inside and room(name) == SHOWN.get(module.removeprefix("cfxnb."))
        assert shown or room(name) in allowed, f"{module}, line {line}, imports {name}"


def test_no_circle_of_imports():
    """Not even between modules of one room, nor by an import inside a function."""
    modules = {module_of(path): path for path in SOURCES}
    graph = {
        module: {n for n, _, inside in imports(path) if n in modules and n != module}
        for module, path in modules.items()
        if module not in ("cfxnb", "cfxnb.core.results", "cfxnb.attribution.result")
    }
    left = dict(graph)
    while free := [m for m, needs in left.items() if not needs & left.keys()]:
        for module in free:
            del left[module]
    assert not left


@each_source
def test_lines_stay_short(path):
    assert max(map(len, path.read_text().splitlines()), default=0) <= 100


def test_the_watch_over_imports_sees(tmp_path, monkeypatch):
    """Planted offences are found; an empty walk would pass everything."""
    bad = tmp_path / "bad.py"
    bad.write_text("import torch, pickle\n\ndef f(p):\n    assert p\n    return torch.load(p)\n")
    with pytest.raises(AssertionError, match="pickle"):
        test_nothing_executes_what_is_in_a_file(bad)
    bad.write_text("import torch\ntorch.load('x', weights_only=False)\n")
    with pytest.raises(AssertionError, match="weights_only"):
        test_nothing_executes_what_is_in_a_file(bad)
    bad.write_text("assert True\n")
    with pytest.raises(AssertionError):
        test_no_assert(bad)
    monkeypatch.setitem(globals(), "module_of", lambda path: "cfxnb.attacks.bad")
    for offence in ("plots.charts", "spaces.vae", "train"):
        bad.write_text(f"def f():\n    import cfxnb.{offence}\n")
        with pytest.raises(AssertionError, match=r"cfxnb\.attacks\.bad"):
            test_layers(bad)
    assert len(SOURCES) > 30


@pytest.mark.parametrize("name", cfx.__all__)
def test_public_names_are_there_and_explained(name):
    thing = getattr(cfx, name)
    if callable(thing) or type(thing).__name__ == "module":
        assert (thing.__doc__ or "").strip(), f"cfx.{name} has no docstring"
        # A dataclass without one shows its signature as its docstring.
        assert not thing.__doc__.startswith(f"{name}("), f"cfx.{name} has no docstring"


def test_all_is_complete():
    """Each name is exported for type checkers, too: ``as`` itself, as stubs have it."""
    assert len(set(cfx.__all__)) == len(cfx.__all__)
    lines = tree(ROOT / "cfxnb" / "__init__.pyi").body
    names = [a for n in lines if isinstance(n, ast.ImportFrom) for a in n.names]
    assert set(cfx.__all__) == {a.name for a in names}
    assert all(a.asname == a.name for a in names)


def test_importing_takes_no_time():
    """Nothing heavy is loaded before it is used, and never more than a call needs."""
    code = "import sys; import cfxnb as cfx; {}; print(*sorted(sys.modules))"
    for use, unloaded in (
        ("pass", {"torch", "pandas", "matplotlib", "diffusers", "ipywidgets", "sklearn"}),
        ("cfx.latent_attack", {"matplotlib", "diffusers", "ipywidgets", "cfxnb.checks"}),
    ):
        run = [sys.executable, "-c", code.format(use)]
        loaded = set(subprocess.run(run, check=True, capture_output=True, text=True).stdout.split())
        assert not loaded & unloaded
