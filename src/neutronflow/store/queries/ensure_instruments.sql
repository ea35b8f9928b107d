-- Make sure that the instruments of a batch exist.
INSERT INTO instrument (facility, name)
SELECT DISTINCT facility, name FROM unnest(%(facilities)b::text[], %(names)b::text[]) AS wanted (facility, name)
WHERE NOT EXISTS (SELECT FROM instrument known WHERE known.facility = wanted.facility AND known.name = wanted.name)
ORDER BY facility, name ON CONFLICT DO NOTHING
