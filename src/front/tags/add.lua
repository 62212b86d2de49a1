-- TAG.ADD. KEYS[1]: the key. ARGV: how many tags a key may have, what to say of more, the tags.
local key = KEYS[1]
if redis.call('EXISTS', key) == 0 then return 0 end
local has = redis.call('HLEN', record(key))
for at = 3, #ARGV do
    if redis.call('HEXISTS', record(key), ARGV[at]) == 0 then has = has + 1 end
end
if has > tonumber(ARGV[1]) then return redis.error_reply(ARGV[2]) end
local added = 0
for at = 3, #ARGV do added = added + give(key, ARGV[at], now()) end
return added
