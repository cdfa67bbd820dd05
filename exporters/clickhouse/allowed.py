"""What a statement may touch: judged on the engine's own parse of it, name by name, by lists of what is allowed.

`EXPLAIN AST` parses and does not look anything up, so nothing of the statement has run when it is judged. A name in a
literal or an alias can make a line of it look like more than it is, never like less.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from exporters.clickhouse.sql import Denied

_QUERIES = frozenset({"SelectWithUnionQuery", "SelectIntersectExceptQuery", "SelectQuery"})
_ROOTS = _QUERIES | {
    "ShowTables", "ShowColumns", "ShowIndexes", "ShowFunctions", "ShowCreateTableQuery", "ShowCreateViewQuery",
    "ShowCreateDatabaseQuery", "DescribeQuery", "ExistsTableQuery", "ExistsViewQuery", "ExistsDatabaseQuery",
}  # fmt: skip
#: How a table may come about without a table. The rest reach files, networks, other databases or the interpreter.
_TABLE_FUNCTIONS = frozenset({"numbers", "numbers_mt", "zeros", "zeros_mt", "generate_series", "generateseries", "values", "view", "null"})  # fmt: skip
#: Kinds of functions that only work on their arguments. A kind that is not known is not allowed.
_CATEGORIES = frozenset({
    "Arithmetic", "Arrays", "Bit", "Bitmap", "Comparison", "Conditional", "Dates and Times", "Distance", "Encoding",
    "Encryption", "Financial", "Geo", "Geo Polygon", "Hash", "IP Address", "JSON", "Logical", "Map", "Mathematical", "Null",
    "NumericIndexedVector", "QBit", "Random Number", "Rounding", "String", "String Replacement", "String Search",
    "String Splitting", "Time Series", "Time Window", "Tuple", "Type Conversion", "URL", "UUID",
})  # fmt: skip
#: Of the kinds that are not allowed as a whole, what clients and people use.
_FUNCTIONS = frozenset({
    "bar", "blocknumber", "blocksize", "bytesize", "casewithexpression", "coalesce", "connectionid", "countdigits",
    "currentdatabase", "currentqueryid", "currentschemas", "currentuser", "authenticateduser", "queryid", "initialqueryid",
    "defaultvalueofargumenttype", "defaultvalueoftypename", "digits", "displayname", "errorcodetoname",
    "finalizeaggregation", "formatquery", "formatqueryornull", "formatquerysingleline", "formatquerysinglelineornull",
    "formatreadabledecimalsize", "formatreadablequantity", "formatreadablesize", "formatreadabletimedelta", "fqdn",
    "getsetting", "getsettingordefault", "getsizeofenumtype", "getsubcolumn", "globalvariable", "hostname", "identity",
    "ignore", "indexhint", "isconstant", "isdecimaloverflow", "lowcardinalityindices", "lowcardinalitykeys", "materialize",
    "minsamplesizecontinuous", "minsamplesizeconversion", "neighbor", "parsereadablesize", "parsereadablesizeornull",
    "parsereadablesizeorzero", "parsetimedelta", "partitionid", "revision", "rownumberinallblocks", "rownumberinblock",
    "runningaccumulate", "runningdifference", "runningdifferencestartingwithfirstvalue", "shardcount", "shardnum", "throwif",
    "tocolumntypename", "totypename", "transform", "uptime", "version", "variantelement", "varianttype", "visiblewidth",
    "pggetuserbyid", "pgtableisvisible", "nested", "_cast", "initialquerystarttime",
})  # fmt: skip
_SYSTEM = frozenset({
    "one", "numbers", "numbers_mt", "zeros", "zeros_mt", "tables", "columns", "databases", "settings", "functions",
    "table_functions", "table_engines", "data_type_families", "formats", "time_zones", "aggregate_function_combinators",
    "collations", "keywords", "parts", "build_options", "licenses", "contributors", "documentation", "statements",
})  # fmt: skip
_INFORMATION = frozenset({"tables", "columns", "views", "schemata", "key_column_usage", "referential_constraints", "statistics"})  # fmt: skip
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)?", re.ASCII)
_LINE = re.compile(r"( *)(\w+)(?: (.*))?")
_TAIL = re.compile(r"(?: \(alias .*\))?(?: \(children \d+\))?$", re.DOTALL)
_IN = frozenset({"in", "notin", "globalin", "globalnotin", "nullin", "notnullin", "globalnullin", "globalnotnullin"})


@dataclass(frozen=True, slots=True)
class Functions:
    """What the engine knows: functions that are not allowed, in lower case. What it does not know it refuses itself."""

    denied: frozenset[str]

    @classmethod
    def of(cls, rows: Iterable[tuple[str, str, str, str]], table_functions: Iterable[str]) -> Functions:
        """From system.functions (name, alias_to, categories, is_aggregate) and system.table_functions."""
        known = list(rows)
        by_name = {name: (category, aggregate) for name, _, category, aggregate in known}
        denied: set[str] = set()
        allowed: set[str] = set()
        for name, alias, category, aggregate in known:
            kind, of_rows = by_name.get(alias, (category, aggregate)) if alias else (category, aggregate)
            fine = of_rows == "1" or kind in _CATEGORIES or (alias or name).lower() in _FUNCTIONS
            (allowed if fine else denied).add(name.lower())
        denied -= allowed & {name.lower() for name, _, _, aggregate in known if aggregate == "1"}
        for name in table_functions:
            # A few names are a table function and a function: the function decides.
            if name.lower() not in _TABLE_FUNCTIONS and name.lower() not in allowed:
                denied.add(name.lower())
        return cls(frozenset(denied))


@dataclass(frozen=True, slots=True)
class Node:
    depth: int
    kind: str
    text: str


def nodes(ast: str) -> list[Node]:
    """The lines of EXPLAIN AST."""
    found = []
    for line in ast.split("\n"):
        match = _LINE.fullmatch(line)
        if match:
            found.append(Node(len(match[1]), match[2], _TAIL.sub("", match[3] or "")))
        elif line:
            raise Denied("the statement cannot be judged: a name in it holds what looks like a part of it")
    return found


def judge(ast: str, functions: Functions, database: str) -> None:
    """Whether a statement only asks, and only what may be asked. Raises `Denied`."""
    tree = nodes(ast)
    if not tree:
        raise Denied("the statement cannot be judged")
    root, *rest = tree
    while root.kind == "Explain":
        if "OVERRIDE" in root.text or "TRANSACTION" in root.text or not rest:
            raise Denied("this kind of EXPLAIN is not answered here")
        root, *rest = rest
    if root.kind not in _ROOTS:
        raise Denied(f"{root.kind} is not answered here: only questions are", 164, "READONLY")
    for at, node in enumerate(tree):
        match node.kind:
            case "Function":
                _function(node.text, functions)
                if node.text.lower() in _IN:
                    _right_of_in(tree, at, database)
            case "TableIdentifier":
                table(node.text, database)
            case "Identifier":
                _identifier(node.text)
            case "Set":
                raise Denied("SETTINGS may only stand at the end of the whole statement")
            case kind if kind.endswith("Query") and kind not in _ROOTS and kind != "TablesInSelectQuery":
                raise Denied(f"{kind} is not answered here: only questions are", 164, "READONLY")
            case _:
                pass


def _function(name: str, functions: Functions) -> None:
    if name.lower() in functions.denied:
        raise Denied(f"the function {name} is not allowed here")


def table(name: str, database: str) -> None:
    """Whether a table may be read. Raises `Denied`."""
    if not _NAME.fullmatch(name):
        raise Denied(f"no table is called {name[:100]!r} here")
    owner, dot, rest = name.partition(".")
    if not dot or owner == database:
        return
    known = {"system": _SYSTEM, "information_schema": _INFORMATION}.get(owner.lower())
    if known is None or rest.lower() not in known:
        raise Denied(f"the table {name} is not served here")


def _identifier(name: str) -> None:
    """A name in an expression: a column, but `x IN system.users` has a table there."""
    owner, dot, rest = name.partition(".")
    if dot and owner.lower() == "system" and rest.partition(".")[0].lower() not in _SYSTEM:
        raise Denied(f"the table {name} is not served here")
    if dot and owner.lower() == "default":
        raise Denied(f"the table {name} is not served here")


def _right_of_in(tree: list[Node], at: int, database: str) -> None:
    """`x IN name`: the name may be a table's."""
    depth = tree[at].depth
    arguments = []
    for node in tree[at + 1 :]:
        if node.depth <= depth:
            break
        if node.depth == depth + 2:
            arguments.append(node)
    for node in arguments[1:]:
        if node.kind in ("Identifier", "TableIdentifier"):
            owner, dot, _ = node.text.partition(".")
            if not dot or owner.lower() in ("system", "default", "information_schema", database.lower()):
                table(node.text, database)
