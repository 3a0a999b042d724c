-- Who is in rooms of a partition, where it is not known in this version.
-- KEYS: per room: people, their version   ARGV: limit of people, then per room: known version or ''
local left, rooms, present = tonumber(ARGV[1]), {}, life()
for i = 1, #KEYS, 2 do
  local version = present .. ' ' .. (redis.call('HGET', KEYS[i + 1], 'token') or '0')
  if version == ARGV[1 + (i + 1) / 2] then
    rooms[#rooms + 1] = false
  else
    if left <= 0 and #rooms > 0 then break end
    local people = redis.call('HGETALL', KEYS[i])
    left = left - #people / 2
    rooms[#rooms + 1] = { version, people }
  end
end
return { rooms, present }
