// Sends requests through a proxy on keep-alive connections, with pauses, and counts the results:
// node load.mjs URL COUNT KEY... (one worker for each key).
import http from "node:http";

const [url, count, ...keys] = process.argv.slice(2);
const agent = new http.Agent({ keepAlive: true, maxSockets: keys.length });
const results = new Map();
let left = Number(count);

function ask(key, method, path, body) {
  const headers = body
    ? { "content-type": "application/json", "content-length": Buffer.byteLength(body) }
    : { "x-api-key": key };
  return new Promise((resolve) => {
    const request = http.request(url + path, { agent, method, headers }, (response) => {
      response.resume();
      // A server's response has a request id. A response that the proxy generates has none.
      const by = response.headers["x-request-id"] ? "" : " by the proxy";
      response.on("end", () => resolve(`${method} ${response.statusCode}${by}`));
      response.on("error", (error) => resolve(`${method} ${error.code}`));
    });
    request.on("error", (error) => resolve(`${method} ${error.code}`));
    request.end(body);
  });
}

async function work(key) {
  while (left-- > 0) {
    const result =
      left % 4 === 0
        ? await ask(key, "POST", "/auth/token-exchange", JSON.stringify({ api_key: key }))
        : await ask(key, "GET", "/me");
    results.set(result, (results.get(result) ?? 0) + 1);
    await new Promise((resolve) => setTimeout(resolve, Math.random() * 40));
  }
}

await Promise.all(keys.map(work));
agent.destroy();
for (const [result, times] of [...results].sort()) console.log(`${result}  ${times}`);
const failed = [...results].filter(([result]) => !result.endsWith(" 200"));
process.exitCode = failed.length === 0 ? 0 : 1;
