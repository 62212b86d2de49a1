-- TAG.OF. KEYS[1]: the key.
local tags = {}
if redis.call('EXISTS', KEYS[1]) == 1 then
    for _, tag in ipairs(redis.call('HKEYS', record(KEYS[1]))) do tags[tag] = true end
end
return {set = tags}
