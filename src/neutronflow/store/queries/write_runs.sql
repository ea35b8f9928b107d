-- The new state of a batch's runs.
UPDATE run SET
    cycle = new.cycle,
    state = new.state,
    state_since = CASE WHEN run.state = new.state THEN run.state_since ELSE now() END,
    data_file = new.data_file,
    simulated = run.simulated OR new.simulated,
    experiment_id = coalesce(experiment.id, run.experiment_id)
FROM unnest(%(ids)b::bigint[], %(cycles)b::int[], %(states)b::text[], %(files)b::text[], %(facilities)b::text[],
            %(experiments)b::text[], %(simulated)b::bool[])
     AS new (id, cycle, state, data_file, facility, experiment, simulated)
LEFT JOIN experiment ON experiment.facility = new.facility AND experiment.name = new.experiment
WHERE run.id = new.id
