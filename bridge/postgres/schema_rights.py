"""Checks what a role may do with the tables of the bridge, and names the missing grants."""

from collections.abc import Iterator, Sequence
from typing import Any, Final, TypeAlias

import psycopg

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]

INGESTION: Final = {
    "interaction_ids": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "user_interactions": ("SELECT", "INSERT", "DELETE"),
    "interactions_outbox": ("SELECT", "INSERT", "DELETE"),
    "interactions_outbox_dead": ("SELECT", "INSERT", "DELETE"),
}
"""Without any of these no interaction is taken into Postgres."""
OTHERS: Final = {
    "recommendation_feedback": ("SELECT", "INSERT", "DELETE"),
    "playback_sessions": ("SELECT", "INSERT", "UPDATE"),
    "feed_cache": ("SELECT", "INSERT"),
    "page_token_keys": ("SELECT", "INSERT", "DELETE"),
    "videos": ("SELECT",),
    "trending_hours": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "trending_marks": ("SELECT", "INSERT", "DELETE"),
    "trending_marks_default": ("SELECT", "DELETE"),
    "trending_scores": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "trending_progress": ("SELECT", "UPDATE"),
}
"""Each stands for something that the bridge can do without."""

_MISSING: Final = """
SELECT wanted.name, wanted.privilege, to_regclass(wanted.name) IS NULL
FROM unnest(%s::text[], %s::text[]) AS wanted (name, privilege)
WHERE to_regclass(wanted.name) IS NULL OR NOT has_table_privilege(to_regclass(wanted.name), wanted.privilege)
"""
_CREATION: Final = """
SELECT current_user, current_schema(),
    coalesce(has_schema_privilege(current_schema(), 'CREATE'), false),
    (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = to_regclass('bridge_schema_version')
        AND NOT pg_has_role(relowner, 'USAGE'))
"""


class SchemaError(RuntimeError):
    """The schema cannot be used or created; the message says what helps."""


def check_rights(connection: Connection) -> list[str]:
    """Return the missing rights that the bridge can do without; SchemaError for those that it needs."""
    needed = [*_missing(connection, INGESTION)]
    if needed:
        raise SchemaError("; ".join(needed))
    return [*_missing(connection, OTHERS)]


def creation_problem(connection: Connection) -> str:
    """Return the reason why this role cannot create and change tables, or an empty text."""
    row = connection.execute(_CREATION).fetchone()
    role, schema, allowed, owner = row or ("?", None, False, None)
    if schema is None:
        return f"role {role} has no schema to make tables in: GRANT USAGE, CREATE ON SCHEMA public TO {role}"
    if not allowed:
        return f"role {role} may not create tables in schema {schema}: GRANT CREATE ON SCHEMA {schema} TO {role}"
    if owner is not None:
        return f"role {role} may not change the tables of role {owner}: run `python -m bridge migrate` as {owner}"
    return ""


def _missing(connection: Connection, wanted: dict[str, Sequence[str]] | Any) -> Iterator[str]:
    pairs = [(name, privilege) for name, privileges in wanted.items() for privilege in privileges]
    names, privileges = [name for name, _ in pairs], [privilege for _, privilege in pairs]
    lacking: dict[str, list[str]] = {}
    for name, privilege, absent in connection.execute(_MISSING, [names, privileges]).fetchall():
        lacking.setdefault(name, []).append("" if absent else privilege)
    role = connection.info.user
    for name, rights in lacking.items():
        listed = ", ".join(rights)
        yield (
            f"table {name} is missing"
            if "" in rights
            else (f"role {role} lacks {listed} on {name}: GRANT {listed} ON {name} TO {role}")
        )
