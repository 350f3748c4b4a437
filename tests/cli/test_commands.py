"""The command line: help, wrong arguments, and the commands that need no work."""

import subprocess
import sys

import pytest

from cfxnb.cli import COMMANDS, main


@pytest.mark.parametrize("command", COMMANDS)
def test_help_explains_each_command(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    told = capsys.readouterr().out
    assert f"python -m cfxnb {command}" in told
    assert len(told.split("\n\n")) >= 3  # usage, what it does, its options


def test_an_unknown_command_is_refused(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["explian"])
    assert stop.value.code == 2
    assert "explian" in capsys.readouterr().err


def test_help_loads_nothing_heavy():
    code = "import sys, cfxnb.cli; sys.argv = ['x', '--help']\ntry: cfxnb.cli.main()\n"
    code += "except SystemExit: assert not {'torch', 'pandas'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_the_models_in_the_box_are_listed(capsys):
    assert main(["data"]) == 0
    assert "digits/vae" in capsys.readouterr().out
