-- TAG.MEMBERS. ARGV[1]: the tag.
local keys = {}
for _, key in ipairs(redis.call('ZRANGE', members(ARGV[1]), 0, -1)) do
    if redis.call('EXISTS', key) == 1 then keys[key] = true end
end
return {set = keys}
