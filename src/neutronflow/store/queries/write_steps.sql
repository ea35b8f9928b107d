-- New attempts of steps, and the new state of those that are there.
INSERT INTO step (run_id, name, attempt, cycle, state, state_since, queued_at, started_at, ended_at, agent, error, information)
SELECT * FROM unnest(
    %(runs)b::bigint[], %(names)b::text[], %(attempts)b::int[], %(cycles)b::int[], %(states)b::text[],
    %(since)b::timestamptz[], %(queued)b::timestamptz[], %(started)b::timestamptz[], %(ended)b::timestamptz[],
    %(agents)b::text[], %(errors)b::text[], %(informations)b::text[])
ON CONFLICT (run_id, name, attempt) DO UPDATE SET
    state = excluded.state,
    state_since = excluded.state_since,
    queued_at = excluded.queued_at,
    started_at = excluded.started_at,
    ended_at = excluded.ended_at,
    agent = excluded.agent,
    error = excluded.error,
    information = excluded.information
