// graphile-worker doing what every peer does: the user's total anew, SET and PUBLISH. `worker.mjs run|migrate DSN URL`
import { run, runMigrations, Logger } from "graphile-worker";
import Redis from "ioredis";
import pg from "pg";

const [, , what, dsn, url] = process.argv;
const logger = new Logger(() => () => {});

if (what === "migrate") {
  await runMigrations({ connectionString: dsn, logger });
} else {
  const redis = new Redis(url);
  const pool = new pg.Pool({ connectionString: dsn, max: 16 });
  const query = {
    name: "total",
    text: "SELECT sum(credits) FROM public.user_credits WHERE user_id = $1::uuid AND status = 'active'",
  };
  await run({
    preset: {
      worker: {
        connectionString: dsn,
        concurrentJobs: 16,
        maxPoolSize: 18,
        pollInterval: 2000,
        localQueue: { size: 500 },
        completeJobBatchDelay: 0,
        failJobBatchDelay: 0,
        logger,
      },
    },
    taskList: {
      total: async ({ user_id: user }) => {
        const { rows } = await pool.query({ ...query, values: [user] });
        const document = JSON.stringify({ user_id: user, credits: Number(rows[0].sum ?? 0) });
        const name = `credits:${user}`;
        await redis.pipeline().set(name, document).publish(name, document).exec();
      },
    },
  });
  console.log("ready");
}
