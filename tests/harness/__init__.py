"""What tests share: a private redis-server, programs as processes, a cluster in this process, and waiting."""
