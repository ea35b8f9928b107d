-- The records of a batch's runs, locked in a fixed order so that several managers cannot block each other for good.
SELECT run.id, instrument.facility, instrument.name, run.run_number, run.cycle, run.state, run.data_file,
       coalesce(experiment.name, '')
FROM unnest(%(facilities)s::text[], %(instruments)s::text[], %(numbers)s::bigint[]) AS wanted (facility, name, run_number)
JOIN instrument USING (facility, name)
JOIN run ON run.instrument_id = instrument.id AND run.run_number = wanted.run_number
LEFT JOIN experiment ON experiment.id = run.experiment_id
ORDER BY run.id FOR UPDATE OF run
