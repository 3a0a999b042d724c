-- Writes down that this owner tries the head: once, however often it says so. Answers how many owners did who never took
-- it back, this one among them.
-- KEYS: lease, tries   ARGV: token, head
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return -1 end
if redis.call('HGET', KEYS[2], 'head') ~= ARGV[2] then
  redis.call('DEL', KEYS[2])
  redis.call('HSET', KEYS[2], 'head', ARGV[2])
end
redis.call('HSET', KEYS[2], ARGV[1], 1)
redis.call('EXPIRE', KEYS[2], 86400)
return #redis.call('HKEYS', KEYS[2]) - 1
