-- Job reports of runs that are known; gives back the index of each that was stored.
WITH reported AS (
    SELECT * FROM unnest(%(indexes)s::int[], %(facilities)s::text[], %(instruments)s::text[], %(numbers)s::bigint[], %(steps)s::text[],
        %(attempts)s::int[], %(agents)s::text[], %(started)s::float8[], %(ended)s::float8[], %(exit_codes)s::int[], %(cpu)s::float8[],
        %(rss)s::bigint[], %(logs)s::text[], %(truncated)s::bool[], %(files)s::text[])
    AS one (index, facility, instrument, number, step, attempt, agent, started, ended, exit_code, cpu, rss, log, truncated, files)
), known AS (
    SELECT reported.*, run.id AS run_id FROM reported
    JOIN instrument ON instrument.facility = reported.facility AND instrument.name = reported.instrument
    JOIN run ON run.instrument_id = instrument.id AND run.run_number = reported.number
), stored AS (
    INSERT INTO job_report (run_id, step, attempt, agent, started_at, ended_at, exit_code, cpu_s, max_rss_bytes, log, log_truncated, files)
    SELECT run_id, step, attempt, agent, to_timestamp(started), to_timestamp(ended), exit_code, cpu, rss, log, truncated, files::jsonb
    FROM known ORDER BY index
)
SELECT index FROM known
