"""What SQL readers may send to the embedded store: one reading statement that touches nothing but the store.

The embedded engine knows no users, and in its `readonly=1` still reads files (the scalar `file()`, `default`'s files
as tables, `DESCRIBE TABLE file(...)`), writes them (`INTO OUTFILE`), runs several statements at once and looks into
the Python process (history-store.md, and tried). So a statement is taken apart first: what this small lexer does not
know for certain is refused, and the engine is handed exactly the tokens that were looked at, comments removed.
"""

import re
from dataclasses import dataclass

from sinks.errors import Refused

MAX_QUERY_BYTES = 256 * 1024

READING = frozenset({"select", "with", "show", "describe", "desc", "exists", "explain"})
"""The words a statement may begin with."""

SYSTEM_TABLES = frozenset(
    {
        "columns", "contributors", "data_type_families", "databases", "formats", "functions", "keywords", "numbers", "one",
        "parts", "parts_columns", "settings", "table_engines", "table_functions", "tables", "time_zones", "zeros",
    }
)  # fmt: skip
"""Tables of `system` that clients need and that say nothing about the machine or other people's queries."""

TABLE_FUNCTIONS = frozenset(
    {"format", "generate_series", "generateseries", "null", "numbers", "numbers_mt", "primes", "values", "view", "zeros", "zeros_mt"}
)
"""Table functions that make their rows out of nothing or out of the store. Every other one the engine knows is refused."""

_DENIED_NAMES = frozenset(
    {
        "file", "catboostevaluate", "hascolumnintable", "joinget", "joingetornull", "getserversetting", "getmacro",
        "getserverport", "tcpport", "showcertificate", "reversednsquery", "getclienthttpheader", "hostname",
        "fullhostname", "serveruuid", "sleep", "sleepeachrow", "getoskernelversion", "addresstoline", "addresstosymbol",
    }
)  # fmt: skip
_DENIED_PREFIXES = ("ai", "dictget", "dicthas", "dictisin", "filesystem", "naivebayes", "iceberg")
_DENIED_WORDS = {
    "into": "writing to files is not served",
    "outfile": "writing to files is not served",
    "infile": "reading files is not served",
    "processlist": "other readers' queries are not served",
}

_TOKEN = re.compile(
    r"""
    (?P<space>\s+|--[^\n]*|/\*.*?\*/)
    |(?P<string>'(?:[^'\\]|\\.|'')*')
    |(?P<quoted>"(?:[^"\\]|"")*"|`(?:[^`\\]|``)*`)
    |(?P<word>[A-Za-z_][A-Za-z0-9_]*(?![\w$]))
    |(?P<number>(?:0[xX][0-9a-fA-F]+|\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)(?![\w$]))
    |(?P<mark>(?!//|/\*)[-()\[\]{},;.:?=<>!+*/%|^&@~])
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement that may run: its text without comments and FORMAT clause, its first word, and the format it asked for."""

    sql: str
    verb: str
    format: str | None


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    spaced: bool = False

    @property
    def name(self) -> str:
        """The identifier a word or quoted token stands for, in lower case."""
        return (self.text if self.kind == "word" else self.text[1:-1]).lower()


def _tokens(sql: str) -> list[_Token]:
    found: list[_Token] = []
    at, spaced = 0, False
    while at < len(sql):
        match = _TOKEN.match(sql, at)
        if match is None or match.lastgroup is None:
            raise Refused(400, f"Syntax error: not understood at position {at + 1}: {sql[at : at + 20]!r}")
        if match.lastgroup != "space":
            found.append(_Token(match.lastgroup, match.group(), spaced))
        spaced = match.lastgroup == "space"
        at = match.end()
    return found


def check(sql: str, table_functions: frozenset[str] = frozenset()) -> Statement:
    """The statement in `sql` if a reader may run it. `table_functions` are all that the engine knows, in lower case.

    Raises `Refused`: 400 for what is not one statement, 403 for what is none of a reader's business.
    """
    if len(sql.encode()) > MAX_QUERY_BYTES:
        raise Refused(413, f"The query is longer than {MAX_QUERY_BYTES} bytes")
    tokens = _tokens(sql)
    while tokens and tokens[-1].text == ";":
        tokens.pop()
    if not tokens:
        raise Refused(400, "Syntax error: the query is empty")
    verb = next((token.name for token in tokens if token.text != "("), "")
    if verb not in READING:
        raise Refused(403, f"This is a read-only window: only {', '.join(sorted(word.upper() for word in READING))} are served")
    for index, token in enumerate(tokens):
        after = tokens[index + 1] if index + 1 < len(tokens) else _Token("mark", "")
        _look_at(token, after, tokens[index + 2 : index + 3], table_functions)
    chosen = None
    if len(tokens) > 2 and tokens[-2].text.lower() == "format" and tokens[-1].kind == "word":
        chosen, tokens = tokens[-1].text, tokens[:-2]
    # White space and comments become one space each, so that `- -1` does not grow into a comment.
    text = "".join(f" {token.text}" if token.spaced else token.text for token in tokens).strip()
    return Statement(text, verb, chosen)


def _look_at(token: _Token, after: _Token, then: list[_Token], table_functions: frozenset[str]) -> None:
    if token.text == ";":
        raise Refused(400, "Syntax error: one statement at a time")
    if token.text == ":" and after.name == "identifier":
        raise Refused(403, "Parameters of type Identifier are not served: write the name into the query")
    if token.kind not in ("word", "quoted"):
        return
    if token.kind == "word" and token.name in _DENIED_WORDS:
        raise Refused(403, f"{token.text.upper()}: {_DENIED_WORDS[token.name]}")
    if token.name == "default":
        raise Refused(403, "The database `default` is not served")
    if token.name == "system" and after.text == "." and not (then and then[0].name in SYSTEM_TABLES):
        raise Refused(403, f"system.{then[0].name if then else ''} is not served")
    if after.text != "(":
        return
    if token.kind == "quoted":
        raise Refused(403, f"Write the function {token.text} without quotes")
    denied = token.name in _DENIED_NAMES or token.name.startswith(_DENIED_PREFIXES)
    if denied or (token.name in table_functions and token.name not in TABLE_FUNCTIONS):
        raise Refused(403, f"The function {token.text} is not served: queries read this store and nothing else")
