-- A gateway states who of it is in rooms of a partition.
-- KEYS: per room: people, their version   ARGV: gateway, number, keep (s), keep empty (s),
-- then per room: whole, count, then per person: user, sessions or ''
local gateway, number, keep, keep_empty, at = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4], 5
local mine = gateway .. ' '
for i = 1, #KEYS, 2 do
  local people, version = KEYS[i], KEYS[i + 1]
  local whole, count = ARGV[at], tonumber(ARGV[at + 1])
  local stated = tonumber(redis.call('HGET', version, gateway) or 0)
  if number > stated then
    local named, changed = {}, false
    for j = at + 2, at + count * 2, 2 do
      local field, sessions = mine .. ARGV[j], ARGV[j + 1]
      named[field] = true
      if sessions == '' then
        changed = redis.call('HDEL', people, field) == 1 or changed
      elseif redis.call('HGET', people, field) ~= sessions then
        redis.call('HSET', people, field, sessions)
        changed = true
      end
    end
    if whole == '1' then
      for _, field in ipairs(redis.call('HKEYS', people)) do
        if string.sub(field, 1, #mine) == mine and not named[field] then
          redis.call('HDEL', people, field)
          changed = true
        end
      end
    end
    redis.call('HSET', version, gateway, ARGV[2])
    -- The clock is in the version because an empty room forgets it.
    if changed then next_token(version) end
    redis.call('EXPIRE', people, keep)
    redis.call('EXPIRE', version, redis.call('EXISTS', people) == 1 and keep or keep_empty)
  end
  at = at + 2 + count * 2
end
return life()
