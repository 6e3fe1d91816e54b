-- Certain users: the version stored, whether what is stored is true now (null where it is), and both numbers of credits.
SELECT
    computed.user_id::text,
    stored.version,
    CASE
        WHEN stored.version IS NULL AND computed.membership_status = 'none' THEN NULL
        WHEN stored.version IS NULL THEN 'missing'
        WHEN creditsd.differs_now(stored, computed, %(events)s::jsonb) THEN 'wrong'
    END AS drift,
    stored.credits,
    computed.credits
FROM creditsd.totals(%(user_ids)s::text[]::creditsd.user_id[], now(), %(can_buy)s, %(expire_empty)s) AS computed
LEFT JOIN creditsd.balances AS stored ON stored.user_id = computed.user_id
