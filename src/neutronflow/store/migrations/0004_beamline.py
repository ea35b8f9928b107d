"""What the beamline's services tell: states, values, alarms, process variables, and the functions that store them.

``pvupdate``, ``pvstringupdate`` and ``setinstrumentpvs`` are called by the dasmon in use today: names, order and types of their
arguments are a wire contract, and an error makes it drop its connection. So they refuse nothing: what cannot be stored is
left out with a warning, what is too long is cut, and a time in the future counts as now.
"""

from django.contrib.postgres.indexes import BrinIndex
from django.db import migrations, models
from django.db.models import CASCADE

#: What functions with the owner's rights see, whoever calls them.
_PATH = "SET search_path = public, pg_temp"

#: The id of an instrument, which is made where it is missing; NULL for what can be no name.
_INSTRUMENT = f"""
CREATE FUNCTION nf_instrument(of_facility text, called text) RETURNS bigint
LANGUAGE plpgsql {_PATH} AS $$
DECLARE found bigint;
BEGIN
    of_facility := upper(btrim(of_facility));
    called := upper(btrim(called));
    SELECT id INTO found FROM instrument WHERE facility = of_facility AND name = called;
    IF found IS NOT NULL THEN
        RETURN found;
    END IF;
    IF (of_facility ~ '^[A-Z0-9][A-Z0-9_-]{{0,63}}$' AND called ~ '^[A-Z][A-Z0-9_-]{{0,19}}$') IS NOT TRUE THEN
        RAISE WARNING 'nothing is stored for %/%: that can be no instrument', left(of_facility, 80), left(called, 80);
        RETURN NULL;
    END IF;
    INSERT INTO instrument (facility, name) VALUES (of_facility, called) ON CONFLICT DO NOTHING RETURNING id INTO found;
    IF found IS NULL THEN
        SELECT id INTO found FROM instrument WHERE facility = of_facility AND name = called;
    END IF;
    RETURN found;
END $$;
"""

#: Today's dasmon tells no facility. Of several instruments of that name it is the one known longest. An unknown one is made
#: in the facility of all others; where there is none, or are several, in SNS, whose beamlines this dasmon serves.
_INSTRUMENT_CALLED = f"""
CREATE FUNCTION nf_instrument_called(called text) RETURNS bigint
LANGUAGE plpgsql {_PATH} AS $$
DECLARE found bigint;
BEGIN
    SELECT id INTO found FROM instrument WHERE name = upper(btrim(called)) ORDER BY id LIMIT 1;
    IF found IS NULL THEN
        SELECT nf_instrument(CASE WHEN count(DISTINCT facility) = 1 THEN min(facility) ELSE 'SNS' END, called)
            INTO found FROM instrument;
    END IF;
    RETURN found;
END $$;
"""

#: A time in unix seconds; none, no number and the future count as now (or they would keep out all later values).
_TIME = f"""
CREATE FUNCTION nf_time(seconds float8) RETURNS timestamptz
LANGUAGE sql {_PATH} AS $$
    SELECT to_timestamp(least(greatest(coalesce(seconds, 'NaN'), 0), extract(epoch FROM clock_timestamp())::float8))
$$;
"""

#: A name in 255 characters; of longer ones the beginning and a hash, so that no two become one.
_NAME = f"""
CREATE FUNCTION nf_name(given text) RETURNS text
LANGUAGE sql {_PATH} AS $$
    SELECT CASE WHEN length(given) > 255 THEN left(given, 222) || '~' || md5(given) ELSE given END
$$;
"""

#: Tell open pages of these instruments, each once in two seconds at most; what is held back, waits for the listener.
_TELL = f"""
CREATE FUNCTION nf_tell_instruments(ids bigint[]) RETURNS void
LANGUAGE plpgsql {_PATH} AS $$
DECLARE moment timestamptz := clock_timestamp(); told record;
BEGIN
    FOR told IN
        WITH noted AS (
            INSERT INTO instrument_told AS known (instrument_id, at)
            SELECT DISTINCT given, moment FROM unnest(ids) AS given WHERE given IS NOT NULL ORDER BY given
            ON CONFLICT (instrument_id) DO UPDATE SET
                waits = known.at > moment - interval '2 s',
                at = CASE WHEN known.at > moment - interval '2 s' THEN known.at ELSE moment END
            WHERE NOT (known.waits AND known.at > moment - interval '2 s')
            RETURNING known.instrument_id, known.waits
        )
        SELECT facility, name FROM noted JOIN instrument ON instrument.id = noted.instrument_id WHERE NOT noted.waits
        ORDER BY facility, name
    LOOP
        PERFORM announce('instrument', told.facility, told.name, NULL);
    END LOOP;
END $$;
"""

#: Rows are written in the order of their names, so that callers wait for each other, never in a circle.
_PUT = f"""
CREATE FUNCTION nf_put_pvs(of_instrument bigint, names text[], numbers float8[], texts text[], statuses bigint[],
                           times float8[], all_units text[], severities bigint[]) RETURNS void
LANGUAGE plpgsql {_PATH} AS $$
BEGIN
    IF of_instrument IS NULL THEN
        RETURN;
    END IF;
    WITH given AS (
        SELECT nf_name(one.name) AS name, one.number, left(one.text, 8192) AS text, coalesce(one.status, 0) AS status,
               nf_time(one.time) AS at, left(coalesce(one.units, ''), 64) AS units, one.severity, one.place
        FROM unnest(names, numbers, texts, statuses, times, all_units, severities) WITH ORDINALITY
             AS one (name, number, text, status, time, units, severity, place)
        WHERE one.name <> ''
    ), newest AS (
        SELECT DISTINCT ON (name) * FROM given ORDER BY name, at DESC, place DESC
    ), stored AS (
        INSERT INTO pv (instrument_id, name, number, text, units, status, severity, at)
        SELECT of_instrument, name, number, CASE WHEN number IS NULL THEN coalesce(text, '') ELSE text END, units, status,
               severity, at
        FROM newest ORDER BY name
        ON CONFLICT (instrument_id, name) DO UPDATE SET
            number = excluded.number,
            text = excluded.text,
            units = CASE WHEN excluded.units = '' THEN pv.units ELSE excluded.units END,
            status = excluded.status,
            severity = excluded.severity,
            at = excluded.at
        WHERE pv.at <= excluded.at
        RETURNING pv.id, pv.at, pv.number
    )
    INSERT INTO pv_history (pv_id, at, number) SELECT id, at, number FROM stored WHERE number IS NOT NULL
    ON CONFLICT DO NOTHING;
    PERFORM nf_tell_instruments(ARRAY[of_instrument]);
END $$;
"""

_STORE_PVS = f"""
CREATE FUNCTION nf_store_pvs(facility text, instrument text, names text[], numbers float8[], texts text[],
                             statuses bigint[], times float8[], units text[] DEFAULT NULL,
                             severities bigint[] DEFAULT NULL) RETURNS void
LANGUAGE sql SECURITY DEFINER {_PATH} AS $$
    SELECT nf_put_pvs(nf_instrument(facility, instrument), names, numbers, texts, statuses, times, units, severities)
$$;
"""

_PV_UPDATE = f"""
CREATE FUNCTION pvupdate(instrument varchar, pv_name varchar, value float8, status bigint, update_time bigint)
RETURNS void LANGUAGE sql SECURITY DEFINER {_PATH} AS $$
    SELECT nf_put_pvs(nf_instrument_called(instrument), ARRAY[pv_name]::text[], ARRAY[value], NULL, ARRAY[status],
                      ARRAY[update_time]::float8[], NULL, NULL)
$$;
"""

#: The older form says no instrument: it is the one that had a variable of this name last, else the only one there is.
_PV_UPDATE_OLD = f"""
CREATE FUNCTION pvupdate(pv_name varchar, value float8, status bigint, update_time bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER {_PATH} AS $$
DECLARE found bigint;
BEGIN
    SELECT instrument_id INTO found FROM pv WHERE name = nf_name(pv_name) ORDER BY at DESC LIMIT 1;
    IF found IS NULL THEN
        SELECT min(id) INTO found FROM instrument WHERE name <> 'PROBE' HAVING count(*) = 1;
    END IF;
    IF found IS NULL THEN
        RAISE WARNING '% is not stored: it is not said of which instrument it is', left(pv_name, 80);
    END IF;
    PERFORM nf_put_pvs(found, ARRAY[pv_name]::text[], ARRAY[value], NULL, ARRAY[status], ARRAY[update_time]::float8[],
                       NULL, NULL);
END $$;
"""

_PV_STRING_UPDATE = f"""
CREATE FUNCTION pvstringupdate(instrument varchar, pv_name varchar, value varchar, status bigint, update_time bigint)
RETURNS void LANGUAGE sql SECURITY DEFINER {_PATH} AS $$
    SELECT nf_put_pvs(nf_instrument_called(instrument), ARRAY[pv_name]::text[], NULL, ARRAY[value]::text[],
                      ARRAY[status], ARRAY[update_time]::float8[], NULL, NULL)
$$;
"""

_SET_INSTRUMENT_PVS = f"""
CREATE FUNCTION setinstrumentpvs(instrument varchar, pvs text[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER {_PATH} AS $$
#variable_conflict use_column
DECLARE found bigint := nf_instrument_called(setinstrumentpvs.instrument);
BEGIN
    IF found IS NULL THEN
        RETURN;
    END IF;
    -- One list after the other: of two at once, one holds in the end, not a mixture.
    PERFORM FROM instrument WHERE id = found FOR NO KEY UPDATE;
    DELETE FROM monitored_pv WHERE instrument_id = found
        AND name NOT IN (SELECT nf_name(given) FROM unnest(pvs) AS given WHERE given IS NOT NULL);
    INSERT INTO monitored_pv (instrument_id, name)
        SELECT DISTINCT found, nf_name(given) FROM unnest(pvs) AS given WHERE given <> '' ON CONFLICT DO NOTHING;
    PERFORM nf_tell_instruments(ARRAY[found]);
END $$;
"""

_REMOVE_PROBE_RUN = f"""
CREATE FUNCTION nf_remove_probe_run(facility text, run_number bigint) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER {_PATH} AS $$
#variable_conflict use_column
DECLARE found bigint;
BEGIN
    SELECT run.id INTO found FROM run JOIN instrument ON instrument.id = run.instrument_id
        WHERE instrument.name = 'PROBE' AND instrument.facility = upper(nf_remove_probe_run.facility)
        AND run.run_number = nf_remove_probe_run.run_number FOR UPDATE OF run;
    IF found IS NULL THEN
        RETURN false;
    END IF;
    DELETE FROM step WHERE run_id = found;
    DELETE FROM event WHERE run_id = found;
    DELETE FROM job_report WHERE run_id = found;
    DELETE FROM run WHERE id = found;
    DELETE FROM change WHERE kind = 'run' AND instrument = 'PROBE' AND facility = upper(nf_remove_probe_run.facility)
        AND run_number = nf_remove_probe_run.run_number;
    RETURN true;
END $$;
"""

_FUNCTIONS = {
    "nf_instrument(text, text)": _INSTRUMENT,
    "nf_instrument_called(text)": _INSTRUMENT_CALLED,
    "nf_time(float8)": _TIME,
    "nf_name(text)": _NAME,
    "nf_tell_instruments(bigint[])": _TELL,
    "nf_put_pvs(bigint, text[], float8[], text[], bigint[], float8[], text[], bigint[])": _PUT,
    "nf_store_pvs(text, text, text[], float8[], text[], bigint[], float8[], text[], bigint[])": _STORE_PVS,
    "pvupdate(varchar, varchar, float8, bigint, bigint)": _PV_UPDATE,
    "pvupdate(varchar, float8, bigint, bigint)": _PV_UPDATE_OLD,
    "pvstringupdate(varchar, varchar, varchar, bigint, bigint)": _PV_STRING_UPDATE,
    "setinstrumentpvs(varchar, text[])": _SET_INSTRUMENT_PVS,
    "nf_remove_probe_run(text, bigint)": _REMOVE_PROBE_RUN,
}


def _function(signature: str, text: str) -> migrations.RunSQL:
    """A function that nobody may call before ``store.roles`` says who may."""
    return migrations.RunSQL(
        f"{text} REVOKE ALL ON FUNCTION {signature} FROM PUBLIC;", f"DROP FUNCTION {signature}"
    )


class Migration(migrations.Migration):

    dependencies = [
        ('store', '0003_fewer_indexes'),
    ]

    operations = [
        migrations.CreateModel(
            name='InstrumentTold',
            fields=[
                ('instrument', models.OneToOneField(on_delete=CASCADE, primary_key=True, related_name='+', serialize=False, to='store.instrument')),
                ('at', models.DateTimeField()),
                ('waits', models.BooleanField(db_default=False)),
            ],
            options={
                'db_table': 'instrument_told',
            },
        ),
        migrations.AddField(
            model_name='run',
            name='simulated',
            field=models.BooleanField(db_default=False),
        ),
        migrations.AddField(
            model_name='servicestatus',
            name='facility',
            field=models.CharField(db_default='', max_length=64),
        ),
        migrations.AddField(
            model_name='servicestatus',
            name='instrument',
            field=models.CharField(db_default='', max_length=64),
        ),
        migrations.AlterField(
            model_name='run',
            name='state',
            field=models.CharField(choices=[('acquiring', 'acquiring'), ('translating', 'translating'), ('processing', 'processing'), ('complete', 'complete'), ('failed', 'failed')], max_length=16),
        ),
        migrations.CreateModel(
            name='PV',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=255)),
                ('number', models.FloatField(null=True)),
                ('text', models.TextField(null=True)),
                ('units', models.CharField(db_default='', max_length=64)),
                ('status', models.BigIntegerField(db_default=0)),
                ('severity', models.BigIntegerField(null=True)),
                ('at', models.DateTimeField()),
                ('instrument', models.ForeignKey(db_index=False, on_delete=CASCADE, related_name='pvs', to='store.instrument')),
            ],
            options={
                'db_table': 'pv',
            },
        ),
        migrations.CreateModel(
            name='PVHistory',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('at', models.DateTimeField()),
                ('number', models.FloatField()),
                ('pv', models.ForeignKey(db_index=False, on_delete=CASCADE, related_name='history', to='store.pv')),
            ],
            options={
                'db_table': 'pv_history',
            },
        ),
        migrations.CreateModel(
            name='Signal',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=128)),
                ('source', models.CharField(db_default='', max_length=128)),
                ('message', models.CharField(db_default='', max_length=1000)),
                ('level', models.SmallIntegerField()),
                ('at', models.DateTimeField()),
                ('instrument', models.ForeignKey(db_index=False, on_delete=CASCADE, related_name='signals', to='store.instrument')),
            ],
            options={
                'db_table': 'signal',
            },
        ),
        migrations.CreateModel(
            name='StatusHistory',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('key', models.CharField(max_length=128)),
                ('at', models.DateTimeField()),
                ('value', models.FloatField()),
                ('instrument', models.ForeignKey(db_index=False, on_delete=CASCADE, related_name='+', to='store.instrument')),
            ],
            options={
                'db_table': 'status_history',
            },
        ),
        migrations.CreateModel(
            name='StatusValue',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('key', models.CharField(max_length=128)),
                ('value', models.CharField(max_length=128)),
                ('at', models.DateTimeField()),
                ('instrument', models.ForeignKey(db_index=False, on_delete=CASCADE, related_name='values', to='store.instrument')),
            ],
            options={
                'db_table': 'status_value',
            },
        ),
        migrations.CreateModel(
            name='MonitoredPV',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=255)),
                ('instrument', models.ForeignKey(db_index=False, on_delete=CASCADE, related_name='monitored', to='store.instrument')),
            ],
            options={
                'db_table': 'monitored_pv',
                'constraints': [models.UniqueConstraint(fields=('instrument', 'name'), name='monitored_pv_once')],
            },
        ),
        migrations.AddConstraint(
            model_name='pv',
            constraint=models.UniqueConstraint(fields=('instrument', 'name'), name='pv_once'),
        ),
        migrations.AddIndex(
            model_name='pvhistory',
            index=BrinIndex(fields=['at'], name='pv_history_at'),
        ),
        migrations.AddConstraint(
            model_name='pvhistory',
            constraint=models.UniqueConstraint(fields=('pv', 'at'), name='pv_history_once'),
        ),
        migrations.AddConstraint(
            model_name='signal',
            constraint=models.UniqueConstraint(fields=('instrument', 'name'), name='signal_once'),
        ),
        migrations.AddIndex(
            model_name='statushistory',
            index=BrinIndex(fields=['at'], name='status_history_at'),
        ),
        migrations.AddConstraint(
            model_name='statushistory',
            constraint=models.UniqueConstraint(fields=('instrument', 'key', 'at'), name='status_history_once'),
        ),
        migrations.AddConstraint(
            model_name='statusvalue',
            constraint=models.UniqueConstraint(fields=('instrument', 'key'), name='status_value_once'),
        ),
        migrations.RunSQL(
            "REVOKE ALL ON FUNCTION announce(text, text, text, bigint) FROM PUBLIC",
            "GRANT EXECUTE ON FUNCTION announce(text, text, text, bigint) TO PUBLIC",
        ),
        *(_function(signature, text) for signature, text in _FUNCTIONS.items()),
    ]
