-- Removes a dead letter.
-- KEYS: letters, sources   ARGV: id
local letter = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])[1]
if not letter then return 0 end
redis.call('HDEL', KEYS[2], letter[2][2])
return redis.call('XDEL', KEYS[1], ARGV[1])
