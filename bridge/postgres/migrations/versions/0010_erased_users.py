"""The table of erased users under the word that all else uses; programs before this one go on with its former name."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

# The view is one table's rows as they are, so that older programs read and write through it; it goes a release later.
_RENAME = """
DO $$
BEGIN
    IF to_regclass('erased_users') IS NULL THEN
        ALTER TABLE erased_viewers RENAME TO erased_users;
        CREATE VIEW erased_viewers AS SELECT mark, erased_at FROM erased_users;
    END IF;
END $$;
COMMENT ON VIEW erased_viewers IS 'the former name of erased_users, for programs of the release before';
UPDATE bridge_schema_compatibility SET oldest_program = '0001'; -- the view lets all of them go on
DO $$
DECLARE
    one record;
BEGIN
    FOR one IN
        SELECT grantee, privilege_type FROM pg_class, aclexplode(relacl)
        WHERE pg_class.oid = 'erased_users'::regclass AND grantee <> 0 AND grantee <> relowner
            AND privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
    LOOP
        EXECUTE format('GRANT %s ON erased_viewers TO %I', one.privilege_type, one.grantee::regrole::text);
    END LOOP;
END $$;
"""


def upgrade() -> None:
    """Rename the table, and leave its former name as a view."""
    op.execute(_RENAME)


def downgrade() -> None:
    """Refuse: erased users stay erased."""
    raise NotImplementedError("erased users stay erased")
