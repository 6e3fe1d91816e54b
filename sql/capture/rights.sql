REVOKE ALL ON ALL FUNCTIONS IN SCHEMA creditsd FROM PUBLIC;

-- Whoever attaches a partition to the table hands the triggers on to it. Nobody can reach these in another way: the schema
-- is closed, and a trigger's function cannot be called.
GRANT EXECUTE ON FUNCTION creditsd.capture_insert, creditsd.capture_update, creditsd.capture_delete TO PUBLIC;

-- Policies call it as whoever reads, and it tells nobody more than the own claims.
GRANT EXECUTE ON FUNCTION creditsd.signed_in TO PUBLIC;
