INSERT INTO public.user_credits (user_id, credits, status, plan_type, membership)
VALUES (%(user_id)s, %(credits)s, 'active', 'one_time', %(membership)s)
RETURNING credits
