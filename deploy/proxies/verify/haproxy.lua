-- The action lua.tenantry: asks Tenantry whether the request may pass, and sets txn.tenantry to
-- "valid" if so. Its argument is the required scopes, separated by + (all of them).
local URL = "http://tenantry/v1/verify/forward?scope="
-- The frontend `check`, which limits how long a check may take.
local FRONTEND = "abns@tenantry-check"

-- What the check gets of the client's request.
local SENT = { "x-api-key", "authorization", "origin" }
-- What the backend gets of a positive answer.
local PASSED = {
    "x-tenantry-organization", "x-tenantry-key", "x-tenantry-account", "x-tenantry-plan",
    "x-tenantry-scopes",
}
-- What the client gets of a rejection.
local RETURNED = { "www-authenticate", "retry-after", "content-type", "cache-control" }
local REJECTIONS = { [400] = true, [401] = true, [403] = true, [429] = true }

local function first(values)
    return values and values[0]
end

local function answer(txn, status, headers, body)
    local reply = txn:reply { status = status, body = body }
    for name, value in pairs(headers) do
        reply:add_header(name, value)
    end
    txn:done(reply)
end

core.register_action("tenantry", { "http-req" }, function(txn, scope)
    local request = txn.http:req_get_headers()
    local headers = {
        ["x-forwarded-for"] = { txn.sf:src() },
        ["x-forwarded-method"] = { txn.sf:method() },
        ["x-forwarded-uri"] = { txn.sf:pathq() },
    }
    for _, name in ipairs(SENT) do
        headers[name] = request[name]
    end
    local check = core.httpclient():get { url = URL .. scope, dst = FRONTEND, headers = headers }
    local response = check.headers or {}
    if check.status == 200 and first(response["x-tenantry-organization"]) then
        for _, name in ipairs(PASSED) do
            txn.http:req_set_header(name, first(response[name]) or "-")
        end
        txn:set_var("txn.tenantry", "valid")
    elseif REJECTIONS[check.status] then
        local returned = {}
        for _, name in ipairs(RETURNED) do
            returned[name] = first(response[name])
        end
        answer(txn, check.status, returned, check.body)
    else
        answer(txn, 503, {}, "")
    end
end, 1)
