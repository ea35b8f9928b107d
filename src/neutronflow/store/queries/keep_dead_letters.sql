-- Keep messages that could not be understood or applied.
INSERT INTO dead_letter (source, destination, reason, headers, body)
SELECT source, destination, reason, headers::jsonb, body
FROM unnest(%(sources)s::text[], %(destinations)s::text[], %(reasons)s::text[], %(headers)s::text[], %(bodies)s::bytea[])
     AS new (source, destination, reason, headers, body)
