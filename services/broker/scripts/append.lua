-- Appends a request's messages to a partition, all or none. Answers life and replication offset before it wrote, too.
-- KEYS: queue, run, then the idempotency key of each message that has one
-- ARGV: known, limit, keep (ms), count, then per message: place of its key or 0, fingerprint, entries, entry…
local queue, run = KEYS[1], KEYS[2]
local present, position = raise(queue, run, ARGV[1])
local limit, keep, count = tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local messages, at, seen, fresh = {}, 5, {}, 0
for i = 1, count do
  local message = { key = tonumber(ARGV[at]), fingerprint = ARGV[at + 1], first = at + 3, entries = tonumber(ARGV[at + 2]) }
  at = at + 3 + message.entries
  if message.key > 0 then
    local key = KEYS[message.key]
    local kept = seen[key] or redis.call('GET', key)
    if kept then
      if string.match(kept, '^(%x*)') ~= message.fingerprint then return { 'reused', i - 1 } end
      message.kept = true
    end
    seen[key] = kept or message.fingerprint
  end
  if not message.kept then fresh = fresh + message.entries end
  messages[i] = message
end
local length = redis.call('XLEN', queue)
if fresh > 0 and length + fresh > limit then return { 'full', length } end
local answer = { 'appended', present, position }
for i = 1, count do
  local message = messages[i]
  local ids, repeated = {}, 0
  if message.kept then
    repeated = 1
    for id in string.gmatch(redis.call('GET', KEYS[message.key]), '%d+%-%d+') do ids[#ids + 1] = id end
    -- WAIT waits for what this call wrote: with nothing written it would say nothing of the first try.
    redis.call('PEXPIRE', KEYS[message.key], keep)
  else
    for j = 0, message.entries - 1 do
      ids[#ids + 1] = redis.call('XADD', queue, '*', 'e', ARGV[message.first + j])
    end
    if message.key > 0 then
      redis.call('SET', KEYS[message.key], message.fingerprint .. ' ' .. table.concat(ids, ' '), 'PX', keep)
    end
  end
  table.insert(ids, 1, tostring(repeated))
  answer[i + 3] = ids
end
return answer
