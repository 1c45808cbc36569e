"""Numbered SQL files make and change the store's tables and views: each runs once, in order, and stays as released.

`derms migrate` and the owner of an embedded store run them; the archive refuses to write to a server that is behind.
"""

import re
from dataclasses import dataclass
from importlib.resources import files

from schemas.facts import digest
from sinks.clickhouse.client import Store
from sinks.errors import Misconfigured

_NAME = re.compile(r"(\d{4})_\w+\.sql")
_TABLE = """
CREATE TABLE IF NOT EXISTS schema_migrations
(
    number UInt32 COMMENT 'The migration''s number',
    name String COMMENT 'Its file',
    digest String COMMENT 'SHA-256 of its text: a released migration does not change',
    applied_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When it ran (wall time of the store)'
)
ENGINE = ReplacingMergeTree
ORDER BY number
COMMENT 'Which migrations this store has had'
"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file. Its statements can be run again: a migration that was cut short is simply repeated."""

    number: int
    name: str
    text: str

    @property
    def statements(self) -> list[str]:
        """The statements without the comment lines between them."""
        lines = (line for line in self.text.splitlines() if not line.startswith("--"))
        return [statement.strip() for statement in re.split(r";\s*(?:\n|$)", "\n".join(lines)) if statement.strip()]


def migrations() -> list[Migration]:
    """All migrations of this program, in order."""
    found = [
        Migration(int(match[1]), file.name, file.read_text())
        for file in (files("sinks.clickhouse") / "migrations").iterdir()
        if (match := _NAME.fullmatch(file.name))
    ]
    return sorted(found, key=lambda migration: migration.number)


def pending(store: Store) -> list[Migration]:
    """The migrations `store` has not had. Raises `Misconfigured` where it had another text of one, or newer ones."""
    store.command(_TABLE)
    applied = {row["number"]: row for row in store.query("SELECT number, name, digest FROM schema_migrations FINAL")}
    known = {migration.number: migration for migration in migrations()}
    for number, row in sorted(applied.items()):
        if number not in known:
            raise Misconfigured("the history", f"was migrated by a newer program ({row['name']})", "run that program's version")
        if row["digest"] != digest(known[number].text):
            raise Misconfigured("the history", f"had another text of {row['name']}", "use the released program, or a new history")
    return [migration for number, migration in known.items() if number not in applied]


def migrate(store: Store) -> list[str]:
    """Bring `store` up to date; gives the names of the migrations that ran, none when it was. Blocks."""
    done = []
    for migration in pending(store):
        for statement in migration.statements:
            store.command(statement)
        numbers, names, digests = [migration.number], [migration.name], [digest(migration.text)]
        store.insert_columns("schema_migrations", {"number": numbers, "name": names, "digest": digests})
        done.append(migration.name)
    return done
