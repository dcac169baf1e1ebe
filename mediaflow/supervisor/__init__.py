"""`mediaflow up`: a store, a balancer, workers and a watchdog on one machine, kept alive and told about."""
