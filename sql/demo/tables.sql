-- What an application with credits has: people, and what each of them bought.
CREATE TABLE public.users (
    id uuid PRIMARY KEY,
    name text NOT NULL
);

COMMENT ON TABLE public.users IS 'The people of the demo; creditsd does not look at this table.';

CREATE TABLE public.user_credits (
    id bigserial PRIMARY KEY,
    user_id uuid,
    credits integer,
    status text,
    plan_type text,
    membership text,
    subscription_id text,
    expires_at timestamptz,
    created_at timestamptz DEFAULT now()
);

CREATE INDEX user_credits_user_id ON public.user_credits (user_id);

COMMENT ON TABLE public.user_credits IS 'One row per subscription or pack: the only truth about credits.';
COMMENT ON INDEX public.user_credits_user_id IS 'Recompute reads a user''s rows by it.';
