"""Tokens of shell text, as regular expressions, and the words that the shell treats specially.

Source: POSIX.1, Shell Command Language, 2.2 Quoting, 2.6 Word Expansions, 2.7.4 Here-Document;
bash(1).
"""

from __future__ import annotations

import re

MARK = "\0"
"""Character that stands for a place; no shell text can hold it."""

_EXPANSIONS = (
    r"(?P<open>\$\(\(|\$\(|\$\{|\$\[|`)"
    r"|(?P<dollar>\$\0)"
    r"|(?P<unclear>\$\$(?=[{(\[]))"
    r"|(?P<parameter>\$(?:[#?$!@*0-9-]|[A-Za-z_][A-Za-z0-9_]*))"
    r"|(?P<place>\\?\0)"
    r"|(?P<escape>\\.)"
)
"""What has a meaning in words and in double quotes alike."""


def _pattern(*alternatives: str) -> re.Pattern[str]:
    """Return the pattern of the tokens of one construct; any other character is one, too."""
    return re.compile("|".join([*alternatives, "(?P<other>.)"]), re.DOTALL)


CODE = _pattern(
    r"(?P<blank>[ \t]+)",
    r"(?P<chunk>[^ \t\n\\'\"$`#()\[<>;&|\0]+)",
    r"(?P<newline>\n)",
    r"(?P<quoted>'[^']*'?|\$'(?:[^'\\]|\\.)*+'?)",
    r"(?P<double>\$?\")",
    _EXPANSIONS,
    r"(?P<here><<<|<<-?)",
    r"(?P<redirection>&>>?|[<>]&|>\||<>|>>|[<>])",
    r"(?P<function>\([ \t]*\))",
    r"(?P<parentheses>\(\(?)",
    r"(?P<closing>\))",
    r"(?P<bracket>\[)",
    r"(?P<comment>\#)",
    r"(?P<separator>;;&|;;|;&|[;&|])",
)
"""Tokens of commands."""

DOUBLE = _pattern(r"(?P<chunk>[^\"$`\\\0]+)", r"(?P<close>\")", _EXPANSIONS)
"""Tokens within double quotes."""

HERE = _pattern(r"(?P<chunk>[^$`\\\0]+)", _EXPANSIONS)
"""Tokens of a here-document whose delimiter is not quoted."""

BRACES = _pattern(
    r"(?P<close>\})",
    r"(?P<ansi>\$')",
    r"(?P<single>')",
    r"(?P<double>\$?\")",
    _EXPANSIONS,
    r"(?P<chunk>[^}'\"$`\\\0]+)",
)
"""Tokens of ``${...}``."""

ARITHMETIC = _pattern(
    r"(?P<parenthesis>[()\[\]])", r"(?P<newline>\n)", r"(?P<chunk>[^()\[\]\n$`\\\0]+)", _EXPANSIONS
)
"""Tokens of ``$((...))``, ``((...))`` and of subscripts; quotes have no meaning there."""

PARAMETER = re.compile(r"[!#]?(?:[A-Za-z0-9_]+|[@*?$!-](?=[}\[:]))?")
"""Name of a parameter behind ``${``."""

OPERATOR = re.compile(r":?[-=+?]|##?|%%?|//?|\^\^?|,,?|@|:")
"""Operator behind the name of a parameter in ``${...}``."""

ASSIGNMENT = re.compile(r"[A-Za-z0-9_]*\+?=")
"""What follows the beginning of a name in an assignment."""

BRACED_NAME = re.compile(r"\{[A-Za-z0-9_]+")
"""Beginning of ``{name[1]}>file``, where bash puts the number of a descriptor."""

NAME_PART = re.compile(r"[A-Za-z0-9_]+")
"""Characters of a name."""

ASSIGNED = re.compile(r"""[$"'\\]*([A-Za-z_][A-Za-z0-9_]{0,99})["'\\]*(?:\[|\+?=)""")
"""Beginning of an assignment to a variable or an element, with the name as the first group."""

DESCRIPTOR = re.compile(r"[0-9]+|\{[A-Za-z0-9_]+(?:\[[^\]]*\])?\}")
"""What may stand before ``<`` or ``>`` without a blank, and is no word."""

NAMES = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
"""Names of variables in arithmetic."""

TICKED = re.compile(r"[^`\\]*+(?:\\.[^`\\]*+)*+", re.DOTALL)
"""What stands in backquotes."""

STILL_FIRST = frozenset({
    "!", "{", "coproc", "do", "elif", "else", "if", "then", "time", "until", "while",
})  # fmt: skip
"""Words behind which a command begins."""

GRAMMAR = STILL_FIRST | {
    "}", "[[", "case", "done", "esac", "fi", "for", "function", "in", "select",
}  # fmt: skip
"""Words of the grammar."""

PREFIXES = frozenset({"builtin", "command"})
"""Commands behind which the name of a command stands."""

LOOPS = frozenset({"for", "select"})
"""Words behind which the name of a variable and its values stand."""

COMPOUND = LOOPS | {"", "[[", "}", "done", "esac", "fi"}
"""First words behind which a word of the grammar may stand in the same command."""

DECLARING = frozenset({"declare", "export", "local", "readonly", "typeset"})
"""Commands that take assignments, and run commands in the subscripts of names."""

MAPPING = frozenset({"mapfile", "readarray"})
"""Commands that take the name of a variable, and whose option -C takes a command."""

NAMING = MAPPING | {"getopts", "read", "unset", "wait"}
"""Commands that take names of variables, and run commands in their subscripts."""

CALCULATED = frozenset({"HISTCMD", "OPTIND", "RANDOM", "SECONDS", "SRANDOM"})
"""Variables whose values bash evaluates as arithmetic."""

EXPANDED = frozenset({"BASH_ENV", "ENV", "PS4"})
"""Variables in whose values shells run the commands."""

BRACKETS = frozenset({"[", "test"})
"""Commands that compare their arguments, which must not be left out therefore."""

TESTING = BRACKETS | {"printf"}
"""Commands whose option -v takes the name of a variable, likewise."""

COMPARISONS = frozenset({"-eq", "-ne", "-lt", "-le", "-gt", "-ge"})
"""Operators between ``[[`` and ``]]`` that evaluate both sides as arithmetic."""

_QUOTES = re.compile(r"\\\n|\$(?=['\"])|['\"]|\\(.)", re.DOTALL)


def unquoted(text: str) -> str:
    """Return a word without its quotes; "": the shell expands something in it, or it is none."""
    if len(text) > 100:  # no name of a command
        return ""
    bare = _QUOTES.sub(lambda match: match[1] or "", text)
    return "" if any(character in bare for character in "$`\0() \t\n") else bare


_DELIMITER = re.compile(
    r"""[ \t]*((?:[^ \t\n\\'"$`()<>;&|\0]|\\[^\n\0]|'[^'\n\0]*'|"[^"\\$`\n\0]*")+)"""
)
_QUOTING = re.compile(r"""\\(.)|['"]""")


def delimiter_at(text: str, at: int) -> tuple[str, bool, int] | None:
    """Return the delimiter behind ``<<``, whether it is quoted, and the position behind it.

    Returns None for a delimiter that cannot be told, such as one with a placeholder.
    """
    found = _DELIMITER.match(text, at)
    if found is None or text[found.end() : found.end() + 1] in (
        "\0",
        "$",
        "`",
        "(",
        "\\",
        "'",
        '"',
    ):
        return None
    delimiter = _QUOTING.sub(lambda match: match[1] or "", found[1])
    return delimiter, delimiter != found[1], found.end()


def end_of_document(
    text: str, begin: int, delimiter: str, *, tabs: bool, joined: bool
) -> tuple[int, int]:
    """Return the end of a here-document's body, and the position behind the delimiter's line.

    The second is -1 if the delimiter is missing.

    Args:
        text: The shell text.
        begin: Beginning of the body.
        delimiter: The delimiter.
        tabs: True if tabs before the delimiter are skipped.
        joined: True if a backslash at its end joins a line with the next one.
    """
    at = begin - 1
    while (at := text.find(delimiter, at + 1)) >= 0:
        if at < begin:
            continue
        behind = at + len(delimiter)
        if behind < len(text) and text[behind] != "\n":
            continue
        line = at
        while tabs and line > begin and text[line - 1] == "\t":
            line -= 1
        if line > begin and text[line - 1] != "\n":
            continue
        if joined and _is_joined(text, begin, line):
            continue
        return line, behind
    return len(text), -1


def _is_joined(text: str, begin: int, line: int) -> bool:
    """Return True if the line before the one at `line` ends in an unescaped backslash."""
    end = line - 1
    backslashes = 0
    while end - backslashes > begin and text[end - backslashes - 1] == "\\":
        backslashes += 1
    return backslashes % 2 == 1
