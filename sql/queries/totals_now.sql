-- The totals of certain users, computed now from the table. The version is the stored one, which says the same unless news is on
-- its way; 0 for a user nobody has heard of.
SELECT
    NULL::jsonb AS page,
    {total_columns}
FROM (
    SELECT
        computed.user_id,
        coalesce(stored.version, 0) AS version,
        CASE
            WHEN stored.version IS NULL AND computed.membership_status = 'none' THEN timestamptz 'epoch'
            WHEN NOT creditsd.differs_now(stored, computed, %(events)s::jsonb) THEN stored.updated_at
            ELSE now()
        END AS updated_at,
        computed.credits,
        computed.membership_status,
        computed.plan_type,
        computed.can_buy,
        computed.has_ever_had_subscription OR stored.has_ever_had_subscription IS TRUE AS has_ever_had_subscription,
        computed.subscription_id,
        computed.membership,
        computed.expires_at,
        creditsd.level_now(stored, computed, %(events)s::jsonb) AS level,
        creditsd.low_told(%(events)s::jsonb) AS low_credits,
        'change' AS cause,
        NULL::creditsd.past AS previous,
        NULL::jsonb AS events
    FROM creditsd.totals_now(%(user_ids)s::text[]::creditsd.user_id[], %(can_buy)s, %(expire_empty)s) AS computed
    LEFT JOIN creditsd.balances AS stored ON stored.user_id = computed.user_id
) AS total
