-- What a batch of messages said, and what came of each.
INSERT INTO event (run_id, destination, message_id, nf_id, attempt, applied, outcome, information, error)
SELECT * FROM unnest(%(runs)s::bigint[], %(destinations)s::text[], %(message_ids)s::text[], %(nf_ids)s::text[],
                     %(attempts)s::int[], %(applied)s::bool[], %(outcomes)s::text[], %(informations)s::text[], %(errors)s::text[])
