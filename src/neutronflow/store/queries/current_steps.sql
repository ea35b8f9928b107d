-- The current attempt of each step of a batch's runs.
SELECT DISTINCT ON (run_id, name)
    run_id, name, attempt, cycle, state, state_since, queued_at, started_at, ended_at, agent, error, information
FROM step WHERE run_id = ANY(%(runs)s::bigint[]) ORDER BY run_id, name, attempt DESC
