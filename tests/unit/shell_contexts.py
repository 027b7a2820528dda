"""Random shell texts with places for values, composed of what recipes and scripts are made of.

Left out is what docs/security.md names as unprotected: text that is read as commands once more,
and arithmetic or names with a value that came on a detour, such as the output of a command.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable

HOSTILE = [
    "$(touch PWNED)",
    "`touch PWNED`",
    "; touch PWNED; #",
    "x'; touch PWNED; '",
    'x"; touch PWNED; "',
    "x\ntouch PWNED\n#$ -o /evil\n",
    "E\ntouch PWNED\nx",
    "a[$(touch PWNED)]",
    "a[`touch PWNED`]",
    "x) $(touch PWNED)",
    "a=($(touch PWNED))",
    "\\'; touch PWNED; \\\\",
    "} ) )) ]] ; touch PWNED & ${U:-`touch PWNED`} esac",
]
"""Values of which each runs a command at some place."""

ENDINGS = [
    ending.replace("E", delimiter)
    for delimiter in ("E", "F")
    for ending in (
        "\nE\ntouch PWNED\ncat <<E\n",
        "a\nE\ntouch PWNED\n#",
        "zz\n\t\tE\ntouch PWNED\n: <<E\nzz",
        "E\ntouch PWNED\n: <<E",
        "qq\nE\n`touch PWNED`\n",
        "qq\nE\n)touch PWNED\n",
        "qq\nE\n\\`touch PWNED\\`\n",
        "\\\nE\ntouch PWNED\n:",
        "E",
        "\tE",
    )
]
"""Values of which each ends a here-document with the delimiter E or F."""

NAMES = ("n", "m", "k")
PREFIXES = ("command ", "builtin ", ">/dev/null ", "2>/dev/null ", "time ", "! ", "v=1 ", "\\")


class Contexts:
    """The composition of texts, with random choices of a seed; ``{x}`` is a place.

    Args:
        seed: The seed.
        posix: True for texts that dash understands, too.
    """

    def __init__(self, seed: int, *, posix: bool) -> None:
        self._choice = random.Random(seed)
        self._posix = posix
        self._depth = 0

    def text(self) -> str:
        """Return a text."""
        return "\n".join(self._command() for _ in range(self._choice.randint(1, 4))) + "\n"

    def documents(self) -> str:
        """Return here-documents with substitutions and further here-documents in them."""
        return self._document() + "\n"

    def _one_of(self, *makers: Callable[[], str]) -> str:
        """Return what one of the makers makes."""
        return self._choice.choice(makers)()

    def _name(self) -> str:
        return self._choice.choice(NAMES)

    # -- words -------------------------------------------------------------------------------------

    def _value(self) -> str:
        """Return a word without substitutions of commands."""
        name = self._name()
        forms = [
            "{x}", "'{x}'", '"{x}"', "a{x}b", "\\{x}", '"\\"{x}\'"', "'\"'{x}", "text", "1",
            f"${name}", f'"${{{name}}}"', f'"${{{name}:-{{x}}}}"', "${U:-'{x}'}", "'\n{x}\n#'",
            f'${{{name}#"{{x}}"}}', "a\\\n{x}", "#{x}",
        ]  # fmt: skip
        more = ["$'a{x}'", f'"${{{name}/{{x}}/b}}"', '"${a[0]}"', '"${a[@]}"', f"${{!{name}}}"]
        return self._choice.choice(forms if self._posix else forms + more)

    def _word(self) -> str:
        """Return any word."""
        if self._depth > 2 or self._choice.random() < 0.7:
            return self._value()
        inner = [
            lambda: f"$({self._command()}\n)",
            lambda: f'"$({self._command()}\n)"',
            lambda: f"$(({self._sum()}))",
            lambda: f'`printf %s "{self._choice.choice(["{x}", "a", "$n"])}"`',
            lambda: "\"`echo '{x}'`\"",
        ]
        bash = [lambda: f"<({self._command()}\n)", lambda: f"${{n:{self._sum()}}}"]
        return self._one_of(*(inner if self._posix else inner + bash))

    def _sum(self) -> str:
        """Return arithmetic."""
        name = self._name()
        forms = ["{x}", name, f"{name} + 1", f"${name}", f"${{{name}}}", "1", "( {x} )"]
        more = [f"a[{name}]", "a[0]", "a[{x}]", f"{name} = {{x}}", "${a[0]}", "${#a[@]}"]
        return self._choice.choice(forms if self._posix else forms + more)

    def _assignment(self) -> str:
        name = self._name()
        forms = [f"{name}={self._value()}", f"{name}={self._name()}", f"{name}=${self._name()}"]
        more = [
            f"{name}+={self._value()}", f"a=({self._value()} {self._value()})",
            f"a[0]={self._value()}", f"a+=({self._value()})", f"a[{self._sum()}]={self._value()}",
            f"a=([{self._sum()}]={self._value()})",
        ]  # fmt: skip
        return self._choice.choice(forms if self._posix else forms + more)

    # -- commands ----------------------------------------------------------------------------------

    def _command(self) -> str:
        """Return a command."""
        self._depth += 1
        if self._depth > 4:
            made = f"echo {self._value()}"
        else:
            kinds = [self._simple, self._simple, self._assignment, self._compound, self._document]
            made = self._one_of(*(kinds if self._posix else [*kinds, self._builtin, self._builtin]))
        self._depth -= 1
        return made

    def _simple(self) -> str:
        word, name = self._word, self._name()
        return self._one_of(
            lambda: f"echo {word()} {word()}",
            lambda: f"printf '%s\n' {word()} # it's {{x}}",
            lambda: f"[ {word()} = {word()} ]",
            lambda: f"cat {word()} 2>/dev/null",
            lambda: f"echo a >{self._value()} {word()}",
            lambda: f": ${{{name}:={{x}}}}",
            lambda: f"export {name}={self._value()}",
            lambda: f"# don't {{x}}\necho $(({self._sum()}))",
        )

    def _compound(self) -> str:
        command, word = self._command, self._word
        return self._one_of(
            lambda: f"for {self._name()} in {self._value()} {self._value()}; do\n{command()}\ndone",
            lambda: f"case {word()} in\n({word()}) {command()}\n;;\n*) {command()}\n;;\nesac",
            lambda: f"if {command()}\nthen {command()}\nelse {command()}\nfi",
            lambda: f"f() {{ {command()}\n}}; f",
            lambda: f"( {command()}\n)",
            lambda: f"{{ {command()}\n}} | cat",
            lambda: f"{self._simple()}\n{command()}",
        )

    def _document(self) -> str:
        first, second = self._choice.choice("EF"), self._choice.choice("EF")
        body = self._body
        return self._one_of(
            lambda: f"cat <<{first}\n{body()}\n{first}",
            lambda: f"cat <<'{first}'\n{body()}\n{first}",
            lambda: f"cat <<-{first} | cat\n\t{body()}\n\t{first}",
            lambda: f"cat <<-'{first}'\n\t{body()}\n\t{first}",
            lambda: f"cat <<{first}; cat <<{second}\n{body()}\n{first}\n{body()}\n{second}",
            lambda: f"cat <<{first} {self._value()}\n{body()}\n{first}",
        )

    def _body(self) -> str:
        """Return lines of a here-document."""
        forms = ["{x}", "it's {x}\n#{x}", '"{x}" \\{x}', "$(({x}))", '$(echo "{x}")', "a\n\t{x}"]
        if self._depth > 3 or self._choice.random() < 0.3:
            return self._choice.choice([*forms, "${U:-{x}}", "E{x}", "`echo '\n{x}\n'`"])
        self._depth += 1
        inner = self._one_of(
            self._document, self._document, lambda: f"echo {self._word()}", self._command
        )
        ticked = re.sub(r"[\\`]", r"\\\g<0>", inner)
        made = self._choice.choice([
            f"$({inner}\n)", f'"$({inner}\n)"', f"`{ticked}\n`", f'"`\n{ticked}\n`"',
            f"${{U:-$({inner}\n)}}", f"$((1 + $({inner}\n)))",
        ])  # fmt: skip
        self._depth -= 1
        return made

    def _builtin(self) -> str:
        """Return a command of bash that calculates, or takes names."""
        value, name = self._value, self._name()
        declare = self._choice.choice(["declare", "typeset", "readonly", "export", "local"])
        option = self._choice.choice(["", "-i ", "-a ", "-x "])
        let = self._choice.choice(["let", '"let"', "l\\et"])
        made = self._one_of(
            lambda: f"(( {self._sum()} ))",
            lambda: f"{let} {name}={value()}",
            lambda: f'{let} "{name}={{x}}"',
            lambda: f"[[ {value()} -eq {value()} ]]",
            lambda: f"[[ {value()} == {value()} && -n {value()} ]]",
            lambda: f"{declare} {option}{name}={value()}",
            lambda: f'{declare} {option}"{name}={{x}}"',
            lambda: f'{declare} -a "a=({{x}})"',
            lambda: f"{declare} {option}{value()}",
            lambda: f"declare -i {name}; {name}={self._name()}",
            lambda: f"declare -n r={value()}; echo $r",
            lambda: f"read {value()} </dev/null; read n <{value()}",
            lambda: f"printf -v {value()} 1; printf -va[{{x}}] 1",
            lambda: f"test -v {value()}; [[ -v {value()} ]]; unset {value()}; wait -p {value()}",
            lambda: f"mapfile -t a <{value()}; mapfile -C {value()} -c 1 b </dev/null",
            lambda: f"echo ${{{name}@P}} ${{!{name}}} ${{a[{self._sum()}]}}",
            lambda: f"for ((i = 0; i < {self._sum()}; i++)) do {self._simple()}\nbreak; done",
            lambda: f"if (( {self._sum()} )) then let {name}={value()}; fi",
            lambda: f"function g {{ let {name}={value()}; }}; g",
            lambda: f"while(({self._sum()})); do break; done",
        )
        prefixed = self._choice.random() < 0.3 and made.startswith((declare, let, "printf", "read"))
        return self._choice.choice(PREFIXES) + made if prefixed else made
