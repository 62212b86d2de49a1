-- TAG.ADD. KEYS: the key, what is kept of its tags. ARGV: how many tags a key may have, what to say
-- of more; for each tag its name and its number.
local key, record = KEYS[1], KEYS[2]
if redis.call('EXISTS', key) == 0 then return 0 end
local has = redis.call('HLEN', record)
for at = 3, #ARGV, 2 do
    if redis.call('HEXISTS', record, ARGV[at]) == 0 then has = has + 1 end
end
if has > tonumber(ARGV[1]) then return redis.error_reply(ARGV[2]) end
local added = 0
for at = 3, #ARGV, 2 do
    added = added + redis.call('HSETNX', record, ARGV[at], ARGV[at + 1])
end
return added
