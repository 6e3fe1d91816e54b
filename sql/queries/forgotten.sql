-- One user, erased from every table of ours; the id as everything else writes it.
SELECT %(user_id)s::text::{user_id_type}::text, version, balances, changes, deliveries, history, remaining
FROM creditsd.forget(%(user_id)s::text::{user_id_type})
