-- An owner that is alive takes its try back, whether or not it still has the lease.
-- KEYS: tries   ARGV: token
return redis.call('HDEL', KEYS[1], ARGV[1])
