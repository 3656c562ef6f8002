"""Completions of shells: bash completes what a person types; the other scripts say the same."""

import os
import shutil
import subprocess
import sys

import pytest

from amuro_jax.cli import config_files
from amuro_jax.cli.main import VERBS


def script(root, shell):
    command = [sys.executable, "-m", "amuro_jax", "completion", shell]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    return subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True)


@pytest.fixture(scope="module")
def bash(root):
    """The script for bash."""
    made = script(root, "bash")
    assert made.returncode == 0, made.stderr
    return made.stdout


def complete(bash, *words):
    """What bash offers behind these words; the last one is being typed."""
    quoted = " ".join(f"'{word}'" for word in words)
    program = f"{bash}\nCOMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _amuro\n"
    program += 'printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run(
        ["bash", "--norc", "-c", program], check=True, capture_output=True, text=True
    )
    return done.stdout.split()


@pytest.mark.parametrize(
    "words,offered",
    [
        (["amuro", "stu"], ["study"]),
        (["amuro", "study", "--dry"], ["--dry_run"]),
        (["amuro", "study", "--shar"], ["--shard="]),
        (["amuro", "study", "--config.recipe.epo"], ["--config.recipe.epochs="]),
        (["amuro", "lab", "--dry"], []),  # it has none
        (
            ["amuro", "study", "--config", "=", "study/paper_"],
            ["study/paper_llama3_8b.py", "study/paper_olmo1b.py"],
        ),
        (["amuro", "study", "--config=study/ti"], ["--config=study/tiny.py"]),  # as zsh has it
        (["amuro", "lab", "--config", "="], list(config_files.descriptions())),
        (["amuro", "study", "--config.workdir", "=", "wo"], []),  # files, by bash itself
    ],
)
def test_bash_offers(bash, words, offered):
    assert complete(bash, *words) == offered


def test_every_verb_is_offered(bash):
    assert complete(bash, "amuro", "") == list(VERBS)


def test_zsh_uses_the_same(root, bash):
    made = script(root, "zsh").stdout
    assert made.endswith(bash) and "bashcompinit" in made


def test_fish_has_a_line_for_each_verb_and_flag(root):
    made = script(root, "fish").stdout
    for verb in VERBS:
        assert f" -a {verb} -d '" in made
        assert f"__fish_seen_subcommand_from {verb}' -l " in made
    assert "from study' -l config.recipe.epochs -r " in made
    assert all(line.count("'") % 2 == 0 for line in made.replace("\\'", "").splitlines())
    if fish := shutil.which("fish"):
        subprocess.run([fish, "--no-execute"], input=made, text=True, check=True)


def test_an_unknown_shell_is_refused(root):
    made = script(root, "tcsh")
    assert made.returncode == 2 and "bash, zsh, fish" in made.stderr
