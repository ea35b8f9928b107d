-- New attempts of steps, and the new state of those that are there.
INSERT INTO step (run_id, name, attempt, cycle, state, queued_at, started_at, ended_at, agent, error, information)
SELECT run_id, name, attempt, cycle, state,
       CASE WHEN state = 'queued' THEN now() END, CASE WHEN state = 'started' THEN now() END,
       CASE WHEN state NOT IN ('waiting', 'queued', 'started') THEN now() END, agent, error, information
FROM unnest(%(runs)s::bigint[], %(names)s::text[], %(attempts)s::int[], %(cycles)s::int[], %(states)s::text[],
            %(agents)s::text[], %(errors)s::text[], %(informations)s::text[])
     AS new (run_id, name, attempt, cycle, state, agent, error, information)
ON CONFLICT (run_id, name, attempt) DO UPDATE SET
    state = excluded.state,
    state_since = now(),
    queued_at = coalesce(step.queued_at, excluded.queued_at),
    started_at = coalesce(step.started_at, excluded.started_at),
    ended_at = excluded.ended_at,
    agent = CASE WHEN excluded.agent = '' THEN step.agent ELSE excluded.agent END,
    error = excluded.error,
    information = CASE WHEN excluded.information = '' THEN step.information ELSE excluded.information END
