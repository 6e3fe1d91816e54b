"""creditsd: tells everyone a user's new total the moment a row of `user_credits` changes.

    user_credits        the application's table, and the only truth
         |  trigger: one insert, one try-lock, inside the writer's own transaction
         v
      changes           whose total may be different now; says nothing about how
         |  doorbell: wakes whoever sleeps; may be lost, carries no data
         v
     recompute          a batch of users in, their totals out, in one statement
         |
         v
      balances          one row per user: the newest total and its version
         |  one cursor per sink
         v
      publisher         redis, webhook, stdout, HTTP streams ...

The folders, in the order of the line:

    schema              the application's table as it is found, and what is installed beside it
    capture             whose credits may differ: the doorbell, the reader of `changes`, and who holds our locks
    totals              what they are now, where no change asked: recompute, publish again; the history of every step
    delivery            who is told: a publisher a sink, its backlog, its retries
    sinks               how each kind of receiver is told
    http                reads, streams, probes, metrics, the operator's page
    admin               what a person asks and does, without a terminal
    metrics             figures for Prometheus
    daemon              `creditsd run`: the election, the work loop of whoever leads, and what opens all of it
    gateway             `creditsd serve`: HTTP without a database, fed by what a sink publishes
    bench               `creditsd bench`: what the trigger costs on your server
    cli, demo           the commands, a file each; the whole line in one terminal

Beneath them, and knowing nothing of the line: `domain` (the total and its words), `config` (settings, the log),
`postgres` (connections and SQL files) and `brokers` (how Redis and NATS are reached).

What always holds:

* A change says *look again*, never *add five*. Every step reads the truth anew, so repeating, merging or
  delaying a step changes nothing but the time.
* Between two stages lies a table. Whatever dies, the next start goes on from a cursor; and since `balances`
  has one row per user, no sink can ever owe more messages than there are users.
* A user's version only grows. Whoever keeps the higher one is right, in whatever order deliveries come.
* The application never waits for us, and never fails because of us.
"""

__version__ = "0.1.0"
