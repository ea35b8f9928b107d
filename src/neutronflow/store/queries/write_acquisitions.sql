-- What beamlines say of runs; the state only of those that are in no cycle yet.
UPDATE run SET
    state = CASE WHEN run.cycle = 0 THEN new.state ELSE run.state END,
    state_since = CASE WHEN run.cycle > 0 OR run.state = new.state THEN run.state_since ELSE now() END,
    simulated = run.simulated OR new.simulated,
    experiment_id = coalesce(run.experiment_id, experiment.id)
FROM unnest(%(ids)b::bigint[], %(states)b::text[], %(simulated)b::bool[], %(facilities)b::text[], %(experiments)b::text[])
     AS new (id, state, simulated, facility, experiment)
LEFT JOIN experiment ON experiment.facility = new.facility AND experiment.name = new.experiment
WHERE run.id = new.id
