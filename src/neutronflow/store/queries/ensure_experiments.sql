-- Make sure that the experiments of a batch exist.
INSERT INTO experiment (facility, name)
SELECT DISTINCT facility, name FROM unnest(%(facilities)b::text[], %(names)b::text[]) AS wanted (facility, name)
WHERE NOT EXISTS (SELECT FROM experiment known WHERE known.facility = wanted.facility AND known.name = wanted.name)
ORDER BY facility, name ON CONFLICT DO NOTHING
