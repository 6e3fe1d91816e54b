-- What the source consists of: attaching, detaching or dropping a partition moves rows without any trigger.
CREATE FUNCTION creditsd.partitions()
RETURNS text
LANGUAGE sql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT coalesce(string_agg(p.relid::oid::text, ' ' ORDER BY p.relid::oid), '')
    FROM pg_partition_tree({table_literal}::regclass) AS p
$function$;

COMMENT ON FUNCTION creditsd.partitions IS 'The partitions of the source, as oids; only their difference matters.';
