-- Job reports of runs that are known.
INSERT INTO job_report (run_id, step, attempt, agent, started_at, ended_at, exit_code, cpu_s, max_rss_bytes, log, log_truncated, files)
SELECT run.id, step, attempt, agent, to_timestamp(started), to_timestamp(ended), exit_code, cpu, rss, log, truncated, files::jsonb
FROM unnest(%(facilities)b::text[], %(instruments)b::text[], %(numbers)b::bigint[], %(steps)b::text[], %(attempts)b::int[],
            %(agents)b::text[], %(started)b::float8[], %(ended)b::float8[], %(exit_codes)b::int[], %(cpu)b::float8[],
            %(rss)b::bigint[], %(logs)b::text[], %(truncated)b::bool[], %(files)b::text[])
     WITH ORDINALITY
     AS new (facility, name, number, step, attempt, agent, started, ended, exit_code, cpu, rss, log, truncated, files, place)
JOIN instrument USING (facility, name)
JOIN run ON run.instrument_id = instrument.id AND run.run_number = new.number
ORDER BY place
