-- Keep messages that could not be understood or applied.
INSERT INTO dead_letter (source, destination, reason, headers, body)
SELECT source, destination, reason, headers::jsonb, body
FROM unnest(%(sources)b::text[], %(destinations)b::text[], %(reasons)b::text[], %(headers)b::text[], %(bodies)b::bytea[])
     AS new (source, destination, reason, headers, body)
