-- Every function of ours but those that triggers, policies and the view hold on to, as DROP wants to read it.
SELECT 'creditsd.' || quote_ident(p.proname) || '(' || pg_get_function_identity_arguments(p.oid) || ')'
FROM pg_proc AS p
WHERE p.pronamespace = 'creditsd'::regnamespace
AND p.prorettype <> 'trigger'::regtype
AND p.proname NOT IN ('signed_in', 'source_rows')
ORDER BY 1
