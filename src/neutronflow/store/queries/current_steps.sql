-- The current attempt of each step of a batch's runs.
SELECT wanted.run_id, step.*
FROM unnest(%(runs)b::bigint[]) AS wanted (run_id)
CROSS JOIN LATERAL (
    SELECT DISTINCT ON (name) name, attempt, cycle, state, state_since, queued_at, started_at, ended_at, agent, error, information
    FROM step WHERE step.run_id = wanted.run_id ORDER BY name, attempt DESC
) AS step
