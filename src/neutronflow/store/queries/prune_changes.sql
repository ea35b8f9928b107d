-- Forget changes older than a day; pages that were away for longer fetch everything again.
DELETE FROM change WHERE at < now() - interval '1 day'
