"""Prints a script that makes a shell complete verbs, flags, configuration fields and file names.

  amuro completion bash >~/.local/share/bash-completion/completions/amuro
  amuro completion zsh >~/.amuro-completion.zsh && echo '. ~/.amuro-completion.zsh' >>~/.zshrc
  amuro completion fish >~/.config/fish/completions/amuro.fish

--shell=bash, zsh or fish. The script is made for this version of amuro: after an update, make it
again.
"""

import typing

from absl import flags

from amuro_jax import config as configuration
from amuro_jax.cli import config_files, configure
from amuro_jax.errors import ConfigError

DESCRIPTION = "print the completions of a shell: bash, zsh or fish"
FIRST = "shell"
SHELLS = ("bash", "zsh", "fish")

BASH = """\
# Completions of amuro, made by `amuro completion`.
_amuro() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}" words=""
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "{verbs}" -- "$current"))
    return
  fi
  # bash makes three words of --config=lab, zsh one
  case "$before $current" in
    *" --config="*)
      COMPREPLY=($(compgen -P "--config=" -W "{files}" -- "${{current#--config=}}"))
      return ;;
    "--config =") words="{files}" current="" ;;
    "= "*)
      [ "${{COMP_WORDS[COMP_CWORD-2]}}" = "--config" ] || return
      words="{files}" ;;
    *=*) return ;;
    *)
      case "${{COMP_WORDS[1]}}" in
{cases}
      esac ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -o default -o nospace -F _amuro amuro
"""
ZSH = "autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit\n"


class Option(typing.NamedTuple):
    """One flag of a verb, or one field of its configuration."""

    name: str
    help: str
    takes_value: bool


def define_flags() -> None:
    """Declares --shell."""
    flags.DEFINE_string("shell", "", f"One of {', '.join(SHELLS)}.")


def main() -> None:
    """Prints the script."""
    from amuro_jax.cli.main import VERBS, module_of

    shell = flags.FLAGS.shell
    if shell not in SHELLS:
        hint = f"one of {', '.join(SHELLS)}"
        raise ConfigError(f"unknown shell {shell!r}", where="--shell", hint=hint)
    modules = {verb: module_of(verb) for verb in VERBS}
    if shell == "fish":
        print(_fish(modules), end="")
    else:
        print((ZSH if shell == "zsh" else "") + _bash(modules), end="")


def options(module) -> list[Option]:
    """What a verb takes: its flags, then the fields of its configuration."""
    # Every process has one registry of flags: this verb's flags are there for a moment only.
    registry = flags.FLAGS
    sources = (module.__name__, configure.__name__)
    _forget(registry, (__name__, *sources))
    module.define_flags()
    declared = registry.flags_by_module_dict()
    declared_flags = [flag for source in sources for flag in declared.get(source, [])]
    listed = [Option(flag.name, flag.help, not flag.boolean) for flag in declared_flags]
    _forget(registry, sources)
    if kind := getattr(module, "CONFIG", ""):
        for line in configure.describe_fields(getattr(configuration, kind)):
            name, _, rest = line.strip().removeprefix("--").partition("=")
            listed.append(Option(name, rest, True))
    return [one for one in listed if one.name != "config_field"]


def _forget(registry, sources):
    declared = registry.flags_by_module_dict()
    names = [flag.name for source in sources for flag in declared.get(source, [])]
    registry.remove_flag_values(names)


def _bash(modules):
    cases = []
    for verb, module in modules.items():
        words = (f"--{one.name}{'=' * one.takes_value}" for one in options(module))
        cases.append(f'          {verb}) words="{" ".join(["--help", *words])}" ;;')
    files = " ".join(config_files.descriptions())
    return BASH.format(verbs=" ".join(modules), files=files, cases="\n".join(cases))


def _fish(modules):
    lines = ["# Completions of amuro, made by `amuro completion`."]
    for verb, module in modules.items():
        start = "complete -c amuro -n __fish_use_subcommand -f"
        lines.append(f"{start} -a {verb} -d {_quoted(module.DESCRIPTION)}")
    for verb, module in modules.items():
        for one in options(module):
            start = f"complete -c amuro -n '__fish_seen_subcommand_from {verb}' -l {one.name}"
            value = " -r" * one.takes_value
            files = f" -a {_quoted(' '.join(config_files.descriptions()))}" * (one.name == "config")
            lines.append(f"{start}{value}{files} -d {_quoted(one.help.split('. ')[0])}")
    return "\n".join(lines) + "\n"


def _quoted(text):
    return "'" + " ".join(text.split()).replace("\\", "\\\\").replace("'", "\\'") + "'"
