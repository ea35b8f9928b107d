-- Job reports of runs that are known.
INSERT INTO job_report (run_id, step, attempt, agent, started_at, ended_at, exit_code, cpu_s, max_rss_bytes, log, log_truncated, files)
SELECT run.id, step, attempt, agent, to_timestamp(started), to_timestamp(ended), exit_code, cpu, rss, log, truncated, files::jsonb
FROM unnest(%(facilities)s::text[], %(instruments)s::text[], %(numbers)s::bigint[], %(steps)s::text[], %(attempts)s::int[],
            %(agents)s::text[], %(started)s::float8[], %(ended)s::float8[], %(exit_codes)s::int[], %(cpu)s::float8[],
            %(rss)s::bigint[], %(logs)s::text[], %(truncated)s::bool[], %(files)s::text[])
     WITH ORDINALITY
     AS new (facility, name, number, step, attempt, agent, started, ended, exit_code, cpu, rss, log, truncated, files, place)
JOIN instrument USING (facility, name)
JOIN run ON run.instrument_id = instrument.id AND run.run_number = new.number
ORDER BY place
