-- One user's steps that are kept, the newest first.
SELECT
    NULL::jsonb,
    h.user_id::text,
    h.version,
    h.updated_at,
    h.credits,
    h.membership_status,
    h.plan_type,
    h.can_buy,
    h.has_ever_had_subscription,
    h.subscription_id,
    h.membership,
    h.expires_at,
    h.cause,
    record_send(h.previous),
    h.events::text
FROM creditsd.history AS h
WHERE h.user_id = %(user_id)s::text::{user_id_type}
ORDER BY h.version DESC
LIMIT %(limit)s
