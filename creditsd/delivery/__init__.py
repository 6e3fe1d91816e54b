"""Who is told: one publisher a sink, what it still has to deliver, and what was refused."""
