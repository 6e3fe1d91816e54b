-- One user's stored total.
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
FROM creditsd.balances AS b
WHERE b.user_id = %(user_id)s::text::{user_id_type}
