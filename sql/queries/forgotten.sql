-- One user, erased from every table of ours; the id as everything else writes it.
SELECT %(user_id)s::text::creditsd.user_id::text, version, balances, changes, deliveries, history, remaining
FROM creditsd.forget(%(user_id)s::text::creditsd.user_id)
