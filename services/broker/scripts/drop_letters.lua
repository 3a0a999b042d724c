-- Removes dead letters.
-- KEYS: letters, sources   ARGV: ids
local dropped = 0
for _, id in ipairs(ARGV) do
  local letter = redis.call('XRANGE', KEYS[1], id, id)[1]
  if letter then
    redis.call('HDEL', KEYS[2], letter[2][2])
    dropped = dropped + redis.call('XDEL', KEYS[1], id)
  end
end
return dropped
