-- A table for each that is compared, all alike; together they are all that the bench writes to.
CREATE SCHEMA creditsd_bench;

COMMENT ON SCHEMA creditsd_bench IS 'Scratch of "creditsd bench", which removes it at its end; drop it if none is running.';

CREATE TABLE creditsd_bench.plain (
    id integer PRIMARY KEY,
    user_id uuid NOT NULL,
    credits integer NOT NULL,
    status text NOT NULL,
    plan_type text,
    membership text,
    subscription_id text,
    expires_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now()
) WITH (autovacuum_enabled = off);

COMMENT ON TABLE creditsd_bench.plain IS 'No trigger.';

CREATE INDEX ON creditsd_bench.plain (user_id);

INSERT INTO creditsd_bench.plain (id, user_id, credits, status, plan_type, membership)
SELECT n, md5(n::text)::uuid, n % 1000, 'active', 'one_time', 'Pack'
FROM generate_series(1, 20000) AS n;

CREATE TABLE creditsd_bench.notifying (LIKE creditsd_bench.plain INCLUDING ALL) WITH (autovacuum_enabled = off);

COMMENT ON TABLE creditsd_bench.notifying IS 'A trigger that notifies, as it is commonly written by hand.';

INSERT INTO creditsd_bench.notifying
SELECT *
FROM creditsd_bench.plain;

CREATE FUNCTION creditsd_bench.tell()
RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    PERFORM pg_notify('creditsd_bench', NEW.user_id::text);
    RETURN NULL;
END
$function$;

COMMENT ON FUNCTION creditsd_bench.tell IS 'Tells whose row changed.';

CREATE TRIGGER tell
AFTER INSERT OR UPDATE ON creditsd_bench.notifying
FOR EACH ROW
EXECUTE FUNCTION creditsd_bench.tell();

CREATE TABLE creditsd_bench.captured (LIKE creditsd_bench.plain INCLUDING ALL) WITH (autovacuum_enabled = off);

COMMENT ON TABLE creditsd_bench.captured IS 'What "creditsd install" would put on it.';

INSERT INTO creditsd_bench.captured
SELECT *
FROM creditsd_bench.plain;
