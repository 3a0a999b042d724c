-- Takes a gateway's route out of rooms.
-- KEYS: for each room, its routes.  ARGV: the route.
for _, routes in ipairs(KEYS) do
  redis.call('SREM', routes, ARGV[1])
end
return true
