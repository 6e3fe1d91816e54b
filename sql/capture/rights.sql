-- Nobody but the owner may run a function of ours, unless granted by name. Least of all one of a trigger: hung on another table it
-- would meet values, and casts, of whoever made that table.
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA creditsd FROM PUBLIC;

-- Policies call it as whoever reads, and it tells nobody more than their own claims.
GRANT EXECUTE ON FUNCTION creditsd.signed_in TO PUBLIC;
