-- Whoever is signed in sees their own row, and their own steps.
CREATE POLICY balances_own ON creditsd.balances
    FOR SELECT
    USING (user_id = (SELECT creditsd.signed_in()));

COMMENT ON POLICY balances_own ON creditsd.balances IS
'A signed-in user (sub of request.jwt.claims, as PostgREST and Supabase set it) sees their own row.';

CREATE POLICY history_own ON creditsd.history
    FOR SELECT
    USING (user_id = (SELECT creditsd.signed_in()));

COMMENT ON POLICY history_own ON creditsd.history IS
'A signed-in user (sub of request.jwt.claims, as PostgREST and Supabase set it) sees their own steps.';
