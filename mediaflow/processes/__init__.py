"""Programs as child processes that are kept alive: for `mediaflow up`, and for a worker on several cores."""
