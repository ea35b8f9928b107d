-- The current attempt of each step of a batch's runs.
SELECT DISTINCT ON (run_id, name) run_id, name, attempt, cycle, state, agent
FROM step WHERE run_id = ANY(%(runs)s::bigint[]) ORDER BY run_id, name, attempt DESC
