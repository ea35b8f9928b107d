-- The records of a batch's runs.
SELECT run.id, instrument.facility, instrument.name, run.run_number, run.cycle, run.state, run.data_file,
       coalesce(experiment.name, '')
FROM run JOIN instrument ON instrument.id = run.instrument_id LEFT JOIN experiment ON experiment.id = run.experiment_id
WHERE run.id = ANY(%(ids)b::bigint[])
