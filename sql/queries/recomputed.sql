-- Certain users, recomputed: each total that changed, or every one where they are to be published again.
SELECT
    NULL::jsonb,
    b.user_id::text,
    b.version,
    b.updated_at,
    b.credits,
    b.membership_status,
    b.plan_type,
    b.can_buy,
    b.has_ever_had_subscription,
    b.subscription_id,
    b.membership,
    b.expires_at,
    b.cause,
    record_send(b.previous),
    b.events::text
FROM creditsd.recompute(
    %(user_ids)s::text[]::{user_id_type}[], %(cause)s, %(can_buy)s, %(expire_empty)s, %(events)s::jsonb, %(republish)s, %(history_days)s::integer
) AS b
