-- What a batch of messages said, and what came of each.
INSERT INTO event (run_id, destination, message_id, nf_id, attempt, applied, outcome, information, error)
SELECT * FROM unnest(%(runs)b::bigint[], %(destinations)b::text[], %(message_ids)b::text[], %(nf_ids)b::text[],
                     %(attempts)b::int[], %(applied)b::bool[], %(outcomes)b::text[], %(informations)b::text[], %(errors)b::text[])
