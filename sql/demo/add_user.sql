INSERT INTO public.users (id, name)
VALUES (%(user_id)s, %(name)s)
