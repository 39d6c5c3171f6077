// Sends one request with a Node library that knows the gate from its environment only.
//
//   send.js LIBRARY METHOD URL < body
//
// Prints a JSON object: status, headers, the body in base64, and the HTTP version (none of these speaks HTTP/2).
"use strict";

const fs = require("node:fs");
const http = require("node:http");
const https = require("node:https");
const { HttpsProxyAgent } = require("https-proxy-agent");
const { ProxyAgent, fetch } = require("undici");

const HEADERS = { "Content-Type": "application/octet-stream" };
const MILLISECONDS = 30_000;

/** axios reads the proxy from the environment by itself. */
function sendAxios(axios) {
  const options = { headers: HEADERS, responseType: "arraybuffer", timeout: MILLISECONDS, validateStatus: null };
  return async (method, url, body) => {
    const response = await axios.request({ method, url, data: body, ...options });
    return { status: response.status, headers: response.headers, body: response.data };
  };
}

/** Node's own client with an agent that opens CONNECT tunnels. */
function sendHttps(method, url, body) {
  const agent = new HttpsProxyAgent(process.env.HTTPS_PROXY);
  const client = url.startsWith("https:") ? https : http;
  return new Promise((resolve, reject) => {
    const request = client.request(url, { method, agent, headers: HEADERS, timeout: MILLISECONDS }, (response) => {
      const chunks = [];
      response.on("data", (chunk) => chunks.push(chunk));
      response.on("error", reject);
      response.on("end", () => {
        resolve({ status: response.statusCode, headers: response.headers, body: Buffer.concat(chunks) });
      });
    });
    request.on("error", reject);
    request.on("timeout", () => request.destroy(new Error("timeout")));
    request.end(body);
  });
}

async function sendUndici(method, url, body) {
  const dispatcher = new ProxyAgent(process.env.HTTPS_PROXY);
  const signal = AbortSignal.timeout(MILLISECONDS);
  const response = await fetch(url, { method, body, dispatcher, headers: HEADERS, signal });
  const content = Buffer.from(await response.arrayBuffer());
  await dispatcher.close();
  return { status: response.status, headers: Object.fromEntries(response.headers), body: content };
}

// Older axios opens no tunnel: it names the whole https URL to the proxy.
const SENDERS = {
  axios: sendAxios(require("axios")),
  "axios-absolute": sendAxios(require("axios-absolute")),
  https: sendHttps,
  undici: sendUndici,
};

async function main(library, method, url) {
  const stdin = fs.readFileSync(0);
  const { status, headers, body } = await SENDERS[library](method, url, stdin.length ? stdin : undefined);
  console.log(JSON.stringify({ status, headers, body: body.toString("base64"), version: "1.1" }));
}

main(...process.argv.slice(2)).catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
