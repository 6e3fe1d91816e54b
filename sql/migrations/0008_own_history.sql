-- A signed-in user reads the own steps as the own balance.

CREATE POLICY history_own ON creditsd.history
    FOR SELECT
    USING (user_id = (SELECT creditsd.signed_in()));

COMMENT ON POLICY history_own ON creditsd.history IS
'A signed-in user (sub of request.jwt.claims, as PostgREST and Supabase set it) sees the own steps.';
