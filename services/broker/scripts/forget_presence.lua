-- Removes what a dead gateway stated. Nobody sees a difference, so the version stays.
-- KEYS: per room: people, their version   ARGV: gateway
local dead = ARGV[1] .. ' '
for i = 1, #KEYS, 2 do
  for _, field in ipairs(redis.call('HKEYS', KEYS[i])) do
    if string.sub(field, 1, #dead) == dead then redis.call('HDEL', KEYS[i], field) end
  end
  redis.call('HDEL', KEYS[i + 1], ARGV[1])
end
return 1
