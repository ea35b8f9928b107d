"""The function through which open pages learn of changes."""

from django.db import migrations

#: The lock is held until commit, so ids are visible in the order in which they were given (no reader can skip one).
ANNOUNCE = """
CREATE FUNCTION announce(kind text, facility text, instrument text, run_number bigint) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE given bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(7236478);
    INSERT INTO change (kind, facility, instrument, run_number)
        VALUES (announce.kind, announce.facility, announce.instrument, announce.run_number) RETURNING id INTO given;
    PERFORM pg_notify('neutronflow_changes', given::text);
    RETURN given;
END $$;
"""


class Migration(migrations.Migration):
    dependencies = [("store", "0001_initial")]
    operations = [
        migrations.RunSQL(ANNOUNCE, "DROP FUNCTION announce(text, text, text, bigint)"),
    ]
