-- Moves the head of a queue to the dead letters.
-- KEYS: lease, queue, tries, letters, sources   ARGV: token, life, head, reason, source
if redis.call('GET', KEYS[1]) ~= ARGV[1] or life() ~= ARGV[2] then return 0 end
local head = redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)[1]
if head and head[1] == ARGV[3] then
  local id = redis.call('XADD', KEYS[4], '*', 'source', ARGV[5], 'reason', ARGV[4], 'entry', head[2][2] or '')
  redis.call('HSET', KEYS[5], ARGV[5], id)
  redis.call('EXPIRE', KEYS[5], 86400)
  redis.call('XDEL', KEYS[2], ARGV[3])
end
redis.call('DEL', KEYS[3])
return 1
