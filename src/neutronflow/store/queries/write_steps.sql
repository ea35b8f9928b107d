-- New attempts of steps, and the new state of those that are there.
INSERT INTO step (run_id, name, attempt, cycle, state, state_since, queued_at, started_at, ended_at, agent, error, information)
SELECT * FROM unnest(
    %(runs)s::bigint[], %(names)s::text[], %(attempts)s::int[], %(cycles)s::int[], %(states)s::text[],
    %(since)s::timestamptz[], %(queued)s::timestamptz[], %(started)s::timestamptz[], %(ended)s::timestamptz[],
    %(agents)s::text[], %(errors)s::text[], %(informations)s::text[])
ON CONFLICT (run_id, name, attempt) DO UPDATE SET
    state = excluded.state,
    state_since = excluded.state_since,
    queued_at = excluded.queued_at,
    started_at = excluded.started_at,
    ended_at = excluded.ended_at,
    agent = excluded.agent,
    error = excluded.error,
    information = excluded.information
