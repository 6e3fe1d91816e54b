-- Spend somebody's last pack to zero; its status is left as it is, for creditsd to expire.
UPDATE public.user_credits
SET credits = 0
WHERE id = (
    SELECT c.id
    FROM public.user_credits AS c
    WHERE c.user_id = %(user_id)s
    AND c.plan_type = 'one_time'
    AND c.status = 'active'
    AND c.credits > 0
    LIMIT 1
    FOR UPDATE SKIP LOCKED
)
RETURNING credits
