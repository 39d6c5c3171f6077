// The real `writ up` with an upstream of its own, and agents that send through it.

import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import http from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";

const target = path.resolve(process.env.CARGO_TARGET_DIR ?? path.join(import.meta.dirname, "../../target"));
const writ = path.join(target, "debug/writ");

/** Where the packages of the tests are installed. */
export const installed = path.join(target, "node/");

const DESTINATIONS = `destinations:
  - key: shop.orders
    match: { host: shop.example, methods: [GET], path: /** }
    schemes: [http]
    effect: read
    policy: shop-reads
  - key: shop.refunds
    match: { host: shop.example, methods: [POST], path: /refunds/** }
    schemes: [http]
    effect: payment
    policy: refunds
    measure: { amount: "json:/amount", records: "json:/records/#" }
  - key: shop.fees
    match: { host: shop.example, methods: [POST], path: /fees/** }
    schemes: [http]
    effect: payment
    policy: fees
    measure: { amount: "json:/amount" }
  - key: shop.pairs
    match: { host: shop.example, methods: [POST], path: /pairs/** }
    schemes: [http]
    effect: external_mutation
    policy: pairs
  - key: shop.brief
    match: { host: shop.example, methods: [POST], path: /brief/** }
    schemes: [http]
    effect: notification
    policy: brief
`;

const POLICIES = {
  "shop-reads": "destinations: [shop.orders]\n",
  refunds: "destinations: [shop.refunds]\nrequire_approval: always\nexpiry_minutes: 60\n",
  fees: "destinations: [shop.fees]\nauto_approve_under: { amount: 1 }\n",
  pairs: "destinations: [shop.pairs]\nrequire_approval: always\nrequire_approvals: 2\n",
  brief: "destinations: [shop.brief]\nrequire_approval: always\nexpiry_minutes: 1\n",
};

/** A gate that runs until `stop`. */
export class Gate {
  static async start() {
    const gate = new Gate();
    gate.hits = [];
    gate.upstream = http.createServer((request, response) => {
      let body = "";
      request.on("data", (part) => { body += part; });
      request.on("end", () => {
        gate.hits.push({ method: request.method, url: request.url, body });
        // Takes the request and never says what became of it, the first time.
        if (request.url.includes("/breaks/") && gate.hitsAt(request.url) === 1) return request.socket.destroy();
        response.end('{"done":true}');
      });
    });
    await new Promise((ready) => gate.upstream.listen(0, "127.0.0.1", ready));
    gate.home = path.join(mkdtempSync(path.join(tmpdir(), "writ-pages-")), "home");
    gate.env = { PATH: process.env.PATH, WRIT_HOME: gate.home, HOME: gate.home, NO_COLOR: "1" };
    gate.writ("init");
    const file = (name) => path.join(gate.home, name);
    writeFileSync(file("destinations.yaml"), readFileSync(file("destinations.yaml"), "utf8") + DESTINATIONS.replace("destinations:\n", ""));
    for (const [name, text] of Object.entries(POLICIES)) writeFileSync(file(`policies/${name}.yaml`), text);
    const upstream = `127.0.0.1:${gate.upstream.address().port}`;
    writeFileSync(file("writ.yaml"), `doors: { forward: "127.0.0.1:0", operator: "127.0.0.1:0" }\nupstream:\n  connect_to: { "shop.example:80": "${upstream}" }\n`);
    await gate.up();
    return gate;
  }

  /** Serves, and reads from what is printed where. */
  async up() {
    this.process = spawn(writ, ["up"], { env: this.env, stdio: ["ignore", "pipe", "pipe"] });
    let printed = "";
    this.log = "";
    this.process.stderr.on("data", (part) => { this.log += part; });
    await new Promise((ready, failed) => {
      this.process.stdout.on("data", (part) => {
        printed += part;
        if (printed.includes("Ctrl-C")) ready();
      });
      this.process.on("exit", () => failed(new Error(this.log)));
    });
    this.operator = /operator door\s+(http:\S+)/.exec(printed)[1];
    this.forward = /(?:forward|agent) door\s+(?:http:\/\/)?(\S+)/.exec(printed)?.[1] ?? /@(127\.0\.0\.1:\d+)/.exec(printed)[1];
    this.env.WRIT_DOORS_OPERATOR = this.operator.replace("http://", "");
  }

  /** Runs a command of the operator's. */
  writ(...words) {
    return execFileSync(writ, words, { env: this.env, encoding: "utf8" });
  }

  /** Runs it with another operator's token. */
  writAs(token, ...words) {
    return execFileSync(writ, words, { env: { ...this.env, WRIT_TOKEN: token }, encoding: "utf8" });
  }

  /** A fresh login code, of the first operator or of the one with this token. */
  code(token) {
    const words = ["--json", "login"];
    return JSON.parse(token ? this.writAs(token, ...words) : this.writ(...words)).code;
  }

  /** The token of a new operator. */
  addOperator(name, role) {
    return JSON.parse(this.writ("--json", "operators", "add", name, "--role", role)).token;
  }

  /** The token of a new agent. */
  addAgent(name, owner) {
    return JSON.parse(this.writ("--json", "agents", "add", name, "--owner", owner)).token;
  }

  /** Sends as an agent through the forward door and gives status and body. */
  send(method, url, body = "", { agent = "default", token, headers = {}, origin = "http://shop.example" } = {}) {
    const secret = token ?? readFileSync(path.join(this.home, "agent-default.token"), "utf8").trim();
    const [host, port] = this.forward.split(":");
    const basic = Buffer.from(`${agent}:${secret}`).toString("base64");
    return new Promise((done, failed) => {
      const sent = http.request({
        host, port, method, path: `${origin}${url}`,
        headers: { host: new URL(origin).host, "proxy-authorization": `Basic ${basic}`, "content-length": Buffer.byteLength(body), ...headers },
      }, (response) => {
        let text = "";
        response.on("data", (part) => { text += part; });
        response.on("end", () => done({ status: response.statusCode, body: text, headers: response.headers }));
      });
      sent.on("error", failed);
      sent.end(body);
    });
  }

  /** Sends what must be held, and gives the intent's id. */
  async hold(url, body, options) {
    const held = await this.send("POST", url, body, options);
    if (held.status !== 202) throw new Error(`${held.status} ${held.body}`);
    return JSON.parse(held.body).intentId;
  }

  /** What reached the upstream at this path. */
  hitsAt(url) {
    return this.hits.filter((hit) => hit.url === url).length;
  }

  async stop() {
    this.process.kill("SIGTERM");
    await new Promise((ended) => { if (this.process.exitCode !== null) ended(); else this.process.on("exit", ended); });
    this.upstream.close();
    rmSync(path.dirname(this.home), { recursive: true });
  }
}
