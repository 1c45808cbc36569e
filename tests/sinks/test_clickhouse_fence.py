"""What readers of the embedded store may send, and what they may not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sinks.clickhouse.fence import check
from sinks.errors import Refused

ENGINE_KNOWS = frozenset({"file", "url", "s3", "remote", "eval", "python", "merge", "numbers", "values", "executable", "format", "mysql"})

READING = [
    "SELECT 1",
    "select * from v_telemetry where asset_id = 'a''b' -- all of it",
    "WITH 1 AS x SELECT x",
    "(SELECT 1) UNION ALL (SELECT 2)",
    "SHOW TABLES FROM derms",
    "DESCRIBE v_headroom",
    "EXISTS TABLE v_headroom",
    "EXPLAIN SELECT 1",
    "SELECT * FROM system.settings LIMIT 10000",
    "SELECT 'INTO OUTFILE file(1); DROP' AS `a into b`, \"c(d\" FROM t",
    "SELECT {a:String}, {b:Array(UInt8)}, map('k', 1)['k'], x -> x + 1, 1::Int8, - -1, 0xFF, 1e-3, t.1.2, a ? b : c",
    "SELECT format('{}', 1), count() FROM numbers(3)",
    "SELECT file, url FROM t",
]
REFUSED = [
    "INSERT INTO t VALUES (1)",
    "WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x",
    "SELECT 1 INTO OUTFILE '/tmp/x'",
    "SELECT 1; DROP TABLE t",
    "SELECT file('/etc/passwd')",
    "SELECT `file`('/etc/passwd')",
    "SELECT FiLe /* a */ ('/etc/passwd')",
    "SELECT * FROM file('/etc/passwd')",
    "DESCRIBE TABLE file('/etc/passwd')",
    "SELECT * FROM default.`/etc/passwd`",
    "SELECT * FROM `default`.`/etc/passwd`",
    'SELECT * FROM "default" . x',
    "SELECT * FROM url('http://127.0.0.1/')",
    "SELECT * FROM Python(secret)",
    "SELECT * FROM eval('SELECT 1')",
    "SELECT * FROM merge('default', '.*')",
    "SELECT AIGenerate('x')",
    "SELECT dictGet('a', 'b', 1)",
    "SELECT joinGet('a', 'b', 1)",
    "SELECT * FROM system.processes",
    "SELECT * FROM system . /* */ `processes`",
    "SELECT * FROM SYSTEM.query_log",
    "SHOW PROCESSLIST",
    "SELECT * FROM {t:Identifier}",
    "SELECT * FROM { t : identifier }",
    "SET readonly = 0",
    "USE default",
    "SYSTEM FLUSH LOGS",
    "KILL QUERY WHERE 1",
    "OPTIMIZE TABLE t",
    "DROP TABLE t",
    "",
    "   -- nothing",
]
NOT_UNDERSTOOD = [
    "SELECT 1 // ' \n, file('/etc/passwd') //'",
    "SELECT $$a$$",
    "SELECT \u2018a\u2019",
    "SELECT 1 \\G",
    "SELECT 1 # comment",
    "SELECT 'not ended",
    "SELECT 1 /* not ended",
    "SELECT `a\\`b`",
    "SELECT 1file('/etc/passwd')",
]


@pytest.mark.parametrize("sql", READING)
def test_reading_statements_pass(sql: str) -> None:
    assert check(sql, ENGINE_KNOWS).sql


@pytest.mark.parametrize("sql", REFUSED + NOT_UNDERSTOOD)
def test_everything_else_is_refused(sql: str) -> None:
    with pytest.raises(Refused):
        check(sql, ENGINE_KNOWS)


def test_what_is_sent_on_is_what_was_looked_at() -> None:
    statement = check("SELECT 1 -- a ' quote\n , - -2 /* file( */ FROM numbers(1) FORMAT JSON ;", ENGINE_KNOWS)
    assert statement.sql == "SELECT 1 , - -2 FROM numbers(1)"
    assert (statement.verb, statement.format) == ("select", "JSON")


def test_a_column_called_format_is_no_clause() -> None:
    assert check("SELECT 1 AS format").format is None


def test_a_long_query_is_refused() -> None:
    with pytest.raises(Refused, match="longer"):
        check("SELECT '" + "x" * 300_000 + "'")


@given(st.text(alphabet="sSelect file(default.`'\"\\/*- \n;$system#", max_size=60))
def test_no_text_brings_a_file_function_or_a_second_statement_through(tail: str) -> None:
    try:
        statement = check(f"SELECT {tail}", ENGINE_KNOWS)
    except Refused:
        return
    outside = _outside_quotes(statement.sql)
    assert "file(" not in outside.replace(" ", "").lower()
    assert ";" not in outside
    assert "--" not in outside
    assert "/*" not in outside


def _outside_quotes(sql: str) -> str:
    kept, at = [], 0
    while at < len(sql):
        quote = sql[at]
        if quote not in "'\"`":
            kept.append(quote)
            at += 1
            continue
        at += 1
        while sql[at] != quote or sql[at + 1 : at + 2] == quote:
            at += 2 if sql[at] == quote or (sql[at] == "\\" and quote == "'") else 1
        at += 1
    return "".join(kept)
