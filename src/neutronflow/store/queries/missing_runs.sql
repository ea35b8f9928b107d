-- Those of a batch's runs that do not exist yet.
SELECT facility, name, run_number
FROM unnest(%(facilities)b::text[], %(instruments)b::text[], %(numbers)b::bigint[]) AS wanted (facility, name, run_number)
WHERE NOT EXISTS (
    SELECT FROM run JOIN instrument ON instrument.id = run.instrument_id
    WHERE instrument.facility = wanted.facility AND instrument.name = wanted.name AND run.run_number = wanted.run_number
)
