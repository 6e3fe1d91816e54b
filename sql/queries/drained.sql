-- The next page of changes, recomputed: each total that changed, then one row with the page.
SELECT
    page,
    (total).user_id::text,
    (total).version,
    (total).updated_at,
    (total).credits,
    (total).membership_status,
    (total).plan_type,
    (total).can_buy,
    (total).has_ever_had_subscription,
    (total).subscription_id,
    (total).membership,
    (total).expires_at,
    (total).cause,
    record_send((total).previous),
    (total).events::text
FROM creditsd.drain(
    %(snapshot)s::text::pg_snapshot, %(upto)s::text::pg_snapshot, %(xid)s::text::xid8, %(user_id)s::text::{user_id_type},
    %(version)s::bigint, %(max_changes)s, %(can_buy)s, %(expire_empty)s, %(events)s::jsonb, %(history_days)s::integer
)
