-- Forgets keys that are not there any more: looks at some keys of some tags. ARGV: how many tags,
-- how many keys of each, a random number. KEYS[1]: who has looked lately.
-- Returns how many keys were looked at, and how many were gone.
if not redis.call('SET', KEYS[1], '1', 'PX', 50, 'NX') then return {0, 0} end
math.randomseed(tonumber(ARGV[3]))
local looked, gone = 0, 0
for _, tag in ipairs(redis.call('SRANDMEMBER', 'corral:tags', ARGV[1])) do
    local len = redis.call('ZCARD', members(tag))
    local first = math.random(0, math.max(0, len - ARGV[2]))
    for _, key in ipairs(redis.call('ZRANGE', members(tag), first, first + ARGV[2] - 1)) do
        looked = looked + 1
        if redis.call('EXISTS', key) == 0 then
            gone = gone + 1
            untag(key)
            leave(tag, key)
        end
    end
end
return {looked, gone}
