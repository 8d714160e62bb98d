-- For wrk: requests for one ticket each, built once and sent repeatedly.
--
-- wrk ... URL -- FILE PIPELINED LOOK
--   FILE            one request per line: method, path and token, separated by tabs
--   PIPELINED       number of requests in one write
--   LOOK            1: inspect every response, which costs CPU; 0: use wrk's own counts
--
-- Prints one line of JSON after "result ". With LOOK 1, also prints the ids of all reservations
-- answered 201 after "made ".

local BODY = '{"quantity":1}'

local threads = {}

function setup(thread)
  thread:set("thread_index", #threads)
  table.insert(threads, thread)
end

local function built(method, path, token)
  local lines = {
    method .. " " .. path .. " HTTP/1.1",
    "Host: " .. wrk.host .. ":" .. wrk.port,
    "Authorization: Bearer " .. token,
  }
  if method == "POST" then
    lines[#lines + 1] = "Content-Type: application/json"
    lines[#lines + 1] = "Content-Length: " .. #BODY
  end
  local head = table.concat(lines, "\r\n") .. "\r\n\r\n"
  return method == "POST" and head .. BODY or head
end

local requests = {}
local at = 0

function init(args)
  pipelined = tonumber(args[2])
  local single = {}
  for line in io.lines(args[1]) do
    single[#single + 1] = built(line:match("^(%S+)\t(%S+)\t(%S+)$"))
  end
  for first = 1, #single, pipelined do
    local parts = {}
    for offset = 0, pipelined - 1 do
      parts[#parts + 1] = single[(first + offset - 1) % #single + 1]
    end
    requests[#requests + 1] = table.concat(parts)
  end
  -- Threads begin at different requests, so that they do not send the same ones at the same time.
  at = math.floor(thread_index * #requests / 2) % #requests
  statuses, made = {}, {}
  if args[3] == "1" then
    response = function(status, _, body)
      statuses[status] = (statuses[status] or 0) + 1
      if status == 201 then
        made[#made + 1] = body:match('"id":"([^"]+)"')
      end
    end
  end
end

function request()
  at = at % #requests + 1
  return requests[at]
end

local function json(counts)
  local members = {}
  for name, count in pairs(counts) do
    members[#members + 1] = string.format('"%s": %d', name, count)
  end
  return "{" .. table.concat(members, ", ") .. "}"
end

function done(summary, latency)
  local seen = {}
  for _, thread in ipairs(threads) do
    for status, count in pairs(thread:get("statuses")) do
      seen[status] = (seen[status] or 0) + count
    end
  end
  local ids = {}
  for _, thread in ipairs(threads) do
    for _, id in ipairs(thread:get("made")) do
      ids[#ids + 1] = id
    end
  end
  if next(seen) then
    print("made " .. table.concat(ids, " "))
  end
  local errors = summary.errors
  print("result " .. string.format(
    '{"pipelined": %d, "answered": %d, "not_2xx": %d, "duration_us": %d, "statuses": %s, "errors": %s, "latency_us": %s}',
    threads[1]:get("pipelined"), summary.requests, errors.status, summary.duration, json(seen),
    json({ connect = errors.connect, read = errors.read, write = errors.write, timeout = errors.timeout }),
    json({ p50 = latency:percentile(50), p99 = latency:percentile(99), p99_9 = latency:percentile(99.9) })
  ))
end
