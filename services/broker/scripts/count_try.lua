-- Counts one more try of the head.
-- KEYS: lease, tries   ARGV: token, head
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return -1 end
if redis.call('HGET', KEYS[2], 'head') ~= ARGV[2] then
  redis.call('HSET', KEYS[2], 'head', ARGV[2], 'tries', 0)
end
return redis.call('HINCRBY', KEYS[2], 'tries', 1)
