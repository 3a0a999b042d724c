-- Removes the oldest of too many dead letters: those of a caller that does this after each one, and 64 at most.
-- KEYS: letters, sources   ARGV: keep
local over = math.min(redis.call('XLEN', KEYS[1]) - tonumber(ARGV[1]), 64)
if over <= 0 then return 0 end
for _, letter in ipairs(redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', over)) do
  redis.call('HDEL', KEYS[2], letter[2][2])
  redis.call('XDEL', KEYS[1], letter[1])
end
return over
