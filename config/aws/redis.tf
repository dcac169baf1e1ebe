resource "aws_elasticache_subnet_group" "redis" {
  name        = var.name
  description = "Redis of ${var.name}"
  subnet_ids  = var.private_subnet_ids
}

# The default, volatile-lru, would drop streams that still play: all keys of mediaflow carry an expiry.
resource "aws_elasticache_parameter_group" "redis" {
  name        = var.name
  description = "Redis of ${var.name}"
  family      = "valkey8"

  parameter {
    name  = "maxmemory-policy"
    value = "noeviction"
  }
}

# One shard, because a script needs all keys of a user on one node anyway and one node counts millions of streams;
# a replica in another zone takes over when it fails. What a failover forgets comes back with the next heartbeats.
resource "aws_elasticache_replication_group" "redis" {
  replication_group_id = var.name
  description          = "Streams of ${var.name}"

  engine               = "valkey"
  engine_version       = "8.0"
  node_type            = var.redis_node_type
  port                 = 6379
  parameter_group_name = aws_elasticache_parameter_group.redis.name

  num_cache_clusters         = 2
  automatic_failover_enabled = true
  multi_az_enabled           = true
  subnet_group_name          = aws_elasticache_subnet_group.redis.name
  security_group_ids         = [aws_security_group.redis.id]

  transit_encryption_enabled = true
  transit_encryption_mode    = "required"
  at_rest_encryption_enabled = true
  kms_key_id                 = aws_kms_key.this.arn
  auth_token                 = var.redis_auth_token
  auth_token_update_strategy = "ROTATE"

  # The key that signs tokens and the limits of users live here: a day-old copy of those is worth having.
  snapshot_retention_limit   = 1
  auto_minor_version_upgrade = true
}
