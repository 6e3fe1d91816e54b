-- Users to totals, in five steps: take the turn, compare each user's rows with what is stored, expire empty plans and compare their
-- users once more, store what changed, keep its history. One call at a time, so versions grow in the order of commits.
CREATE FUNCTION creditsd.recompute(
    users {user_id_type}[],
    reason text,
    can_buy_policy text,
    expire_empty text,
    empty_seconds double precision,
    event_policy jsonb,
    republish boolean,
    history_days integer
)
RETURNS SETOF creditsd.balances
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $function$
#variable_conflict use_column
DECLARE
    turn boolean;
    instant timestamptz;
    newest bigint;
    version bigint;
    asked {user_id_type}[] := users;
    emptied {user_id_type}[];
    again boolean := false;
    refused {user_id_type}[] := ARRAY[]::{user_id_type}[];
    unkept boolean;
    low_at numeric := creditsd.low_at(event_policy);
    recovered_at numeric := GREATEST(low_at, (event_policy ->> 'recovered_credits')::numeric); -- creditsd.recovered_at
    low_told numeric := CASE WHEN event_policy ? 'tells_level' AND recovered_at > 0 THEN low_at END; -- creditsd.low_told
    soon interval := make_interval(secs => 86400 * NULLIF((event_policy ->> 'expiring_soon_days')::double precision, 0));
    pair record;
    computed creditsd.total; -- as the rows give it
    stored creditsd.balances; -- as it is stored
    new creditsd.balances; -- as it is to be stored
    changed creditsd.balances[] := ARRAY[]::creditsd.balances[];
    has_new boolean := false;
    is_known boolean;
    is_news boolean;
    has_ever boolean;
    has_expired boolean;
    is_ending boolean;
    old_level text;
    new_level text;
    crossing text;
    waits boolean;
    empty_from timestamptz;
    next_look timestamptz;
    standing jsonb;
BEGIN
    -- 1. Take the turn. The lock comes before the statement that reads the truth: of two recomputes of one user the later one reads
    -- later, and cannot leave the older total. So does the table's own: to a snapshot from before it is rewritten, it is empty.
    turn := pg_advisory_xact_lock('creditsd.balances'::regclass::oid::int4, 561984073) IS NOT NULL;
    LOCK TABLE {table} IN ACCESS SHARE MODE;
    instant := clock_timestamp();
    IF history_days > 0 THEN
        -- Where the newest total is no step, somebody has stored it with history off.
        unkept := NOT EXISTS (
            SELECT
            FROM creditsd.history_kept AS k
            WHERE k.upto >= (SELECT b.version FROM creditsd.balances AS b ORDER BY b.version DESC LIMIT 1)
        );
    END IF;
    newest := GREATEST(
        (extract(epoch FROM instant) * 1000000)::bigint - 1,
        (SELECT b.version FROM creditsd.balances AS b ORDER BY b.version DESC LIMIT 1),
        -- Given out by a server that was lost, or to somebody who is forgotten.
        (SELECT r.version_floor FROM creditsd.reader AS r)
    );
    version := newest;
    IF current_setting('creditsd.careful', true) = 'on' THEN
        asked := creditsd.summable(asked, instant, can_buy_policy, expire_empty);
        -- Who cannot be summed up is due again in a while, and not at once and for ever, before all others.
        UPDATE creditsd.balances AS b
        SET recheck_at = instant + interval '1 minute'
        WHERE b.user_id = ANY (users)
        AND b.user_id <> ALL (asked)
        AND b.recheck_at <= instant;
        users := asked;
    END IF;
    LOOP
        -- 2. Compare. User by user, but each statement once for all: PostgreSQL prepares what a statement might compute at every start
        -- of it, which for one user would be most of the work. What is decided here costs little, and nothing where it is not asked.
        FOR pair IN
            SELECT c AS computed, b AS stored
            FROM creditsd.totals(asked, instant, can_buy_policy, expire_empty) AS c
            LEFT JOIN creditsd.balances AS b ON b.user_id = c.user_id
        LOOP
            computed := pair.computed;
            stored := pair.stored;
            -- An empty plan may stand for empty_seconds. Each change of the user's begins them anew: whoever has just emptied a row may
            -- be about to fill it, or holds a snapshot in which an update of ours would fail to serialize.
            empty_from := CASE WHEN computed.empties > 0 AND expire_empty <> 'off' AND empty_seconds > 0 THEN
                CASE WHEN reason = 'change' THEN instant ELSE coalesce(stored.empty_since, instant) END
            END;
            waits := NOT again AND (empty_from + make_interval(secs => empty_seconds) > instant) IS TRUE;
            IF computed.empties > 0 AND expire_empty <> 'off' AND NOT again AND NOT waits THEN
                emptied := emptied || computed.user_id;
                CONTINUE WHEN expire_empty = 'on';
            END IF;
            is_known := stored.user_id IS NOT NULL;
            has_ever := computed.has_ever_had_subscription OR stored.has_ever_had_subscription IS TRUE;
            -- The old credits by today's thresholds: so a threshold that was moved is no event of anybody's.
            old_level := creditsd.level_of(stored.credits, stored.level, low_at, recovered_at);
            new_level := creditsd.level_of(computed.credits, old_level, low_at, recovered_at);
            is_news := republish OR creditsd.differs(stored, computed);
            IF NOT is_news AND coalesce(low_told, stored.low_credits) IS NOT NULL THEN
                is_news := creditsd.level_differs(stored, new_level, low_told);
            END IF;
            crossing := CASE
                WHEN NOT is_known OR new_level IS NOT DISTINCT FROM old_level THEN NULL
                WHEN new_level = 'depleted' THEN 'credits.depleted'
                WHEN new_level IS NULL THEN 'credits.recovered'
                WHEN old_level IS NULL THEN 'credits.low'
            END;
            has_expired := (stored.membership_status = 'active' AND computed.membership_status = 'expired') IS TRUE;
            is_ending := (
                computed.expires_at - soon <= instant
                -- An end that has only just become near: the timer stood before it, or it was another one.
                AND CASE
                    WHEN NOT is_known THEN reason <> 'backfill'
                    ELSE stored.recheck_at <= computed.expires_at - soon OR computed.expires_at IS DISTINCT FROM stored.expires_at
                END
                AND (computed.expires_at = ANY (stored.ends_told)) IS NOT TRUE
            ) IS TRUE;
            next_look := LEAST(
                computed.changes_at,
                CASE WHEN computed.expires_at - soon > instant THEN computed.expires_at - soon END,
                CASE WHEN waits THEN empty_from + make_interval(secs => empty_seconds) END,
                -- Somebody holds the row, or the table refuses what we would write.
                CASE WHEN again AND computed.empties > 0 THEN
                    instant + CASE WHEN computed.user_id = ANY (refused) THEN interval '1 minute' ELSE interval '1 second' END
                END
            );
            standing := CASE WHEN crossing IS NOT NULL OR has_expired OR is_ending OR stored.events IS NOT NULL THEN
                creditsd.events_after(
                    stored, computed.membership_status, computed.expires_at, version + 1, is_news,
                    new_level, crossing, low_at, recovered_at, has_expired, is_ending
                )
            END;
            IF NOT (is_news OR is_ending) THEN
                -- The same total, but time will change it at another moment than was thought, or a level that is not told.
                IF (stored.recheck_at, stored.level, stored.empty_since) IS DISTINCT FROM (next_look, new_level, empty_from) THEN
                    UPDATE creditsd.balances AS b
                    SET recheck_at = next_look,
                        level = new_level,
                        empty_since = empty_from,
                        events = standing
                    WHERE b.user_id = computed.user_id;
                END IF;
                CONTINUE;
            END IF;
            -- Who has no rows and was never told of is no news: somebody who was forgotten must not come back by this.
            CONTINUE WHEN NOT is_known AND computed.membership_status = 'none' AND NOT republish;
            IF is_ending THEN
                stored.ends_told := ARRAY(SELECT e FROM unnest(stored.ends_told) AS e WHERE e > instant) || computed.expires_at;
            END IF;
            version := version + 1;
            new := ROW(
                computed.user_id, version, instant, computed.credits, computed.membership_status, computed.plan_type,
                computed.can_buy, has_ever, computed.subscription_id, computed.membership, computed.expires_at,
                CASE WHEN again THEN 'auto-expire' ELSE reason END,
                CASE WHEN is_known THEN
                    ROW(
                        stored.version, stored.updated_at, stored.credits, stored.membership_status, stored.plan_type,
                        stored.can_buy, stored.has_ever_had_subscription, stored.subscription_id, stored.membership,
                        stored.expires_at, stored.level, stored.low_credits
                    )::creditsd.past
                END,
                next_look, new_level, standing, stored.ends_told, empty_from, low_told
            )::creditsd.balances;
            RETURN NEXT new;
            changed := changed || new;
            has_new := has_new OR NOT is_known;
        END LOOP;
        -- 3. Expire, and compare those users once more.
        EXIT WHEN emptied IS NULL OR again;
        IF expire_empty = 'dry_run' THEN
            RAISE NOTICE 'creditsd would expire the empty one-time rows of % (expire_empty = dry_run)', emptied[1:10];
            EXIT;
        END IF;
        refused := creditsd.expire_empty(emptied);
        -- Once more, with whatever triggers of the table's own did on the way.
        asked := emptied;
        again := true;
    END LOOP;
    IF EXISTS (SELECT FROM creditsd.problems) THEN
        DELETE FROM creditsd.problems AS p
        WHERE p.user_id = ANY (users)
        AND NOT (p.problem = 'not expired' AND p.user_id = ANY (refused));
    END IF;
    -- 4. Store.
    IF version > newest THEN
        UPDATE creditsd.balances AS b
        SET version = c.version,
            updated_at = c.updated_at,
            credits = c.credits,
            membership_status = c.membership_status,
            plan_type = c.plan_type,
            can_buy = c.can_buy,
            has_ever_had_subscription = c.has_ever_had_subscription,
            subscription_id = c.subscription_id,
            membership = c.membership,
            expires_at = c.expires_at,
            cause = c.cause,
            previous = c.previous,
            recheck_at = c.recheck_at,
            level = c.level,
            events = c.events,
            ends_told = c.ends_told,
            empty_since = c.empty_since,
            low_credits = c.low_credits
        FROM unnest(changed) AS c
        WHERE b.user_id = c.user_id;
    END IF;
    IF has_new THEN
        INSERT INTO creditsd.balances
        SELECT c.*
        FROM unnest(changed) AS c
        WHERE c.previous IS NULL;
    END IF;
    -- 5. Keep the history.
    IF history_days > 0 THEN
        -- Whatever stands above `newest` is this call's own: everyone else waits for the lock.
        INSERT INTO creditsd.history (
            version, user_id, updated_at, credits, membership_status, plan_type, can_buy, has_ever_had_subscription,
            subscription_id, membership, expires_at, cause, previous, events, level, low_credits
        )
        SELECT
            b.version, b.user_id, b.updated_at, b.credits, b.membership_status, b.plan_type, b.can_buy,
            b.has_ever_had_subscription, b.subscription_id, b.membership, b.expires_at, b.cause, b.previous, b.events,
            b.level, b.low_credits
        FROM creditsd.balances AS b
        WHERE b.version > newest;
        IF FOUND THEN
            INSERT INTO creditsd.history_kept AS k (days, whole_after, upto)
            VALUES (history_days, newest, (SELECT b.version FROM creditsd.balances AS b ORDER BY b.version DESC LIMIT 1))
            ON CONFLICT (single) DO UPDATE
            SET days = excluded.days,
                whole_after = CASE WHEN unkept THEN excluded.whole_after ELSE k.whole_after END,
                upto = excluded.upto;
        END IF;
    END IF;
END
$function$;

COMMENT ON FUNCTION creditsd.recompute IS
'Recomputes users (each named once), expires their empty one-time rows, stores and returns the totals that changed, in order of version, with what happened to the user by that; with history_days above 0 into history, too. Takes its turn by an advisory lock.';
