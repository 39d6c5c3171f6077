// The operator pages in a real browser, with agents sending through the gate meanwhile. What counts is what the
// upstream saw: nothing before an approval, one request after it.

import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import http from "node:http";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";

import { Gate, installed } from "./gate.mjs";

const require = createRequire(installed);
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const JSON_BODY = { headers: { "content-type": "application/json" } };
const PATIENCE = 15_000;

let gate;
let browser;

before(async () => {
  gate = await Gate.start();
  const quiet = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox", ...quiet] });
});

after(async () => {
  await browser?.close();
  await gate?.stop();
});

/** A page of an operator who has logged in, which notes every script error and dialog. */
async function opened(token, options = {}) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  page.trouble = [];
  page.on("pageerror", (error) => page.trouble.push(error.message));
  page.on("dialog", (dialog) => { page.trouble.push(`dialog: ${dialog.message()}`); dialog.dismiss(); });
  await page.goto(`${gate.operator}/ui/login`);
  await page.fill("#code", gate.code(token));
  await page.click("text=Log in");
  await page.waitForURL("**/ui/approvals");
  await page.waitForSelector(".live.on");
  return page;
}

const card = (page, id) => page.locator(`[data-card="${id}"]`);

async function vote(page, id, verdict, rationale = "looked at it") {
  await card(page, id).locator("textarea").fill(rationale);
  await card(page, id).getByRole("button", { name: verdict, exact: true }).click();
}

async function until(check, what) {
  const end = Date.now() + PATIENCE;
  while (!(await check())) {
    if (Date.now() > end) throw new Error(`not within ${PATIENCE} ms: ${what}`);
    await new Promise((next) => setTimeout(next, 50));
  }
}

/** Asks the operator door directly, with headers of any kind. */
function ask(method, target, headers, body) {
  const { hostname, port } = new URL(gate.operator);
  return new Promise((done, failed) => {
    const sent = http.request({ hostname, port, method, path: target, headers }, (response) => {
      let text = "";
      response.on("data", (part) => { text += part; });
      response.on("end", () => done({ status: response.statusCode, headers: response.headers, text }));
    });
    sent.on("error", failed);
    sent.end(body);
  });
}

test("an approval sends the held request once, a denial never", async () => {
  const page = await opened();
  const [yes, no] = [await gate.hold("/refunds/yes", '{"amount":12.5}', JSON_BODY), await gate.hold("/refunds/no", '{"amount":9}', JSON_BODY)];
  await card(page, yes).waitFor();
  assert.match(await card(page, yes).innerText(), /12\.5/);
  assert.match(await card(page, yes).innerText(), /the first request of this agent there/);
  assert.equal(gate.hitsAt("/refunds/yes"), 0);
  await vote(page, yes, "Approve", "order 77 was cancelled");
  await card(page, yes).waitFor({ state: "detached" });
  await until(() => gate.hitsAt("/refunds/yes") === 1, "the approved request at the upstream");
  await vote(page, no, "Deny", "not this one");
  await card(page, no).waitFor({ state: "detached" });
  const told = gate.writ("intents", "show", no);
  assert.match(told, /"rejected"/);
  assert.equal(gate.hitsAt("/refunds/no"), 0);
  assert.equal(gate.hitsAt("/refunds/yes"), 1);
  assert.deepEqual(page.trouble, []);
  await page.context().close();
});

test("a card of another agent appears by itself and keeps what is being typed", async () => {
  const page = await opened();
  const first = await gate.hold("/refunds/typed", '{"amount":1}', JSON_BODY);
  await card(page, first).waitFor();
  await card(page, first).locator("textarea").fill("half a thou");
  const token = gate.addAgent("second-bot", "");
  const second = await gate.hold("/refunds/second", '{"amount":2}', { ...JSON_BODY, agent: "second-bot", token });
  await card(page, second).waitFor();
  assert.match(await card(page, second).innerText(), /second-bot/);
  assert.equal(await card(page, first).locator("textarea").inputValue(), "half a thou");
  await vote(page, first, "Deny");
  await vote(page, second, "Deny");
  await card(page, second).waitFor({ state: "detached" });
  await page.context().close();
});

test("what was decided under the cursor is closed, and a late vote is refused", async () => {
  const page = await opened();
  const id = await gate.hold("/refunds/late", '{"amount":3}', JSON_BODY);
  await card(page, id).waitFor();
  await card(page, id).locator("textarea").fill("about to approve");
  gate.writ("deny", id, "--rationale", "from the shell");
  await page.locator(`[data-card="${id}"].gone`).waitFor();
  assert.ok(await card(page, id).getByRole("button", { name: "Approve", exact: true }).isDisabled());
  const data = JSON.parse(gate.writ("intents", "show", id)).request;
  const refused = await page.evaluate(async ([target, body]) => {
    const headers = { "content-type": "application/json", "writ-page": "1" };
    return (await fetch(target, { method: "POST", headers, body: JSON.stringify(body) })).status;
  }, [`/v1/intents/${id}/approve`, { rationale: "late", digest: data.digest, reasons: data.reasons }]);
  assert.equal(refused, 409);
  assert.equal(gate.hitsAt("/refunds/late"), 0);
  await page.context().close();
});

test("a vote on another digest than what is held is refused and changes nothing", async () => {
  const page = await opened();
  const id = await gate.hold("/refunds/swapped", '{"amount":4}', JSON_BODY);
  await card(page, id).waitFor();
  await page.evaluate((name) => { document.querySelector(`[data-vote="${name}"]`).dataset.digest = "0".repeat(64); }, id);
  await vote(page, id, "Approve");
  await page.getByText("this is not what is held now").waitFor();
  assert.equal(gate.hitsAt("/refunds/swapped"), 0);
  gate.writ("deny", id, "--rationale", "done with it");
  await page.context().close();
});

test("two people have to approve where the policy says so", async () => {
  const [ada, ben] = [await opened(gate.addOperator("ada", "reviewer")), await opened(gate.addOperator("ben", "reviewer"))];
  const id = await gate.hold("/pairs/one", '{"a":1}', JSON_BODY);
  await card(ada, id).waitFor();
  await vote(ada, id, "Approve", "fine by me");
  await card(ben, id).getByText("1 of 2 approvals").waitFor();
  assert.match(await card(ben, id).innerText(), /ada approve: fine by me/);
  assert.equal(gate.hitsAt("/pairs/one"), 0);
  await vote(ben, id, "Approve", "and by me");
  await until(() => gate.hitsAt("/pairs/one") === 1, "the request at the upstream");
  await ada.context().close();
  await ben.context().close();
});

test("a viewer sees no body and has no buttons; the owner of an agent cannot vote", async () => {
  const token = gate.addAgent("owned-bot", "olive");
  const [viewer, owner] = [await opened(gate.addOperator("vic", "viewer")), await opened(gate.addOperator("olive", "reviewer"))];
  const id = await gate.hold("/refunds/seen?ticket=canary-query", '{"amount":5,"note":"canary-body"}', { ...JSON_BODY, agent: "owned-bot", token });
  for (const page of [viewer, owner]) await card(page, id).waitFor();
  assert.doesNotMatch(await viewer.content(), /canary-(body|query)/);
  assert.match(await card(viewer, id).innerText(), /masked/);
  assert.equal(await card(viewer, id).getByRole("button").count(), 0);
  assert.match(await card(owner, id).innerText(), /owner of an agent cannot vote/);
  assert.equal(await card(owner, id).getByRole("button").count(), 0);
  await viewer.context().close();
  await owner.context().close();
  gate.writ("deny", id, "--rationale", "done with it");
});

test("what an agent writes is shown as text: nothing of it runs", async () => {
  const page = await opened();
  const payloads = [
    "<script>window.ran=1</script>", "<img src=x onerror=window.ran=1>", "\"><svg onload=window.ran=1>", "</pre><script>window.ran=1</script>",
    "<iframe srcdoc='<script>parent.ran=1</script>'>", "javascript:window.ran=1", "{{7*7}}${7*7}<%= 7*7 %>", "<style>*{display:none}</style>",
    "<a href='javascript:window.ran=1'>x</a>", "<base href='//evil.example/'>", "<meta http-equiv=refresh content='0;url=//evil.example/'>", "<math><mtext></form><form><mglyph><style></math><img src onerror=window.ran=1>",
  ];
  const ids = [];
  for (const [index, payload] of payloads.entries()) {
    const headers = { "content-type": "application/json", "x-note": payload.replace(/[^\x20-\x7e]/g, ""), "user-agent": payload, "writ-run-id": payload.replaceAll(" ", "/"), "writ-trigger": payload.replaceAll(" ", "/") };
    ids.push(await gate.hold(`/refunds/x${index}?q=${encodeURIComponent(payload)}`, JSON.stringify({ amount: 6, note: payload }), { headers }));
  }
  for (const id of ids) await card(page, id).waitFor();
  const dry = "order \u202e77\u0000";
  const bidi = await gate.hold("/refunds/bidi", JSON.stringify({ amount: 7, note: "\u202e" }) + dry, JSON_BODY);
  await card(page, bidi).locator("mark", { hasText: "U+202E" }).first().waitFor();
  await page.goto(`${gate.operator}/ui/approvals/${ids[0]}`);
  await page.locator("pre").first().waitFor();
  assert.equal(await page.evaluate(() => window.ran), undefined);
  assert.equal(await page.locator("main script, main iframe, main img, main svg, main base, main style").count(), 0);
  assert.deepEqual(page.trouble, []);
  for (const id of [...ids, bidi]) gate.writ("deny", id, "--rationale", "done with it");
  await page.context().close();
});

test("pages elsewhere, other names and agents open nothing", async () => {
  const page = await opened();
  const id = await gate.hold("/refunds/foreign", '{"amount":8}', JSON_BODY);
  const { request } = JSON.parse(gate.writ("intents", "show", id));
  const cookie = (await page.context().cookies()).map(({ name, value }) => `${name}=${value}`).join("; ");
  const [session] = await page.context().cookies();
  assert.ok(session.httpOnly && session.sameSite === "Strict");
  const host = gate.operator.replace("http://", "");
  const own = { host, cookie, origin: gate.operator, "content-type": "application/json", "writ-page": "1" };
  const body = JSON.stringify({ rationale: "forged", digest: request.digest, reasons: request.reasons });
  const agent = readFileSync(path.join(gate.home, "agent-default.token"), "utf8").trim();
  const without = (name) => Object.fromEntries(Object.entries(own).filter(([key]) => key !== name));
  const forged = {
    "no origin": [without("origin"), 403],
    "another origin": [{ ...own, origin: "http://evil.example" }, 403],
    "no header of the page": [without("writ-page"), 403],
    "a form": [{ ...own, "content-type": "application/x-www-form-urlencoded" }, 403],
    "plain text": [{ ...own, "content-type": "text/plain" }, 403],
    "a name pointed here": [{ ...own, host: "evil.example", origin: "http://evil.example" }, 421],
    "no session": [without("cookie"), 401],
    "an agent's token": [{ host, authorization: `Bearer ${agent}`, "content-type": "application/json" }, 401],
    "an agent's token as a session": [{ ...own, cookie: `writ_session=${agent}` }, 401],
  };
  for (const [what, [headers, status]] of Object.entries(forged)) {
    assert.equal((await ask("POST", `/v1/intents/${id}/approve`, headers, body)).status, status, what);
  }
  for (const target of ["/v1/intents", "/v1/events", "/v1/agents", "/v1/head", `/v1/intents/${id}/request`, "/v1/stream"]) {
    assert.equal((await ask("GET", target, { host, authorization: `Bearer ${agent}` })).status, 401, target);
  }
  assert.equal((await ask("GET", "/ui/approvals", { host })).headers.location, "/ui/login");
  const answer = await ask("GET", "/ui/approvals", { host, cookie });
  assert.match(answer.headers["content-security-policy"], /default-src 'none'; script-src 'self'/);
  assert.equal(gate.hitsAt("/refunds/foreign"), 0);
  gate.writ("deny", id, "--rationale", "done with it");
  await page.context().close();
});

test("a revoked operator's session ends at once, and so does a closed one", async () => {
  const token = gate.addOperator("eve", "reviewer");
  const page = await opened(token);
  gate.writ("operators", "revoke", "eve");
  await page.goto(`${gate.operator}/ui/agents`);
  await page.waitForURL("**/ui/login");
  const again = await opened();
  await again.getByRole("button", { name: "Log out" }).click();
  await again.waitForURL("**/ui/login");
  await again.goto(`${gate.operator}/ui/approvals`);
  await again.waitForURL("**/ui/login");
  const logins = gate.writ("ledger", "tail", "--type", "operator.login", "--json").trim().split("\n");
  assert.ok(logins.some((line) => JSON.parse(line).data.operator === "eve"));
  await page.context().close();
  await again.context().close();
});

test("everything can be done with keys alone", async () => {
  const page = await opened();
  const id = await gate.hold("/refunds/keys", '{"amount":10}', JSON_BODY);
  await card(page, id).waitFor();
  await page.keyboard.press("j");
  await page.keyboard.press("a");
  await page.keyboard.type("by keyboard");
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await until(() => gate.hitsAt("/refunds/keys") === 1, "the request at the upstream");
  await page.context().close();
});

test("agents are suspended and resumed, and the chain is verified, from the pages", async () => {
  const page = await opened();
  const token = gate.addAgent("moody-bot", "");
  await page.goto(`${gate.operator}/ui/agents`);
  const row = page.getByRole("row", { name: /moody-bot/ });
  await row.getByRole("button", { name: "Suspend" }).click();
  await row.getByText("suspended").waitFor();
  assert.equal((await gate.send("GET", "/orders", "", { agent: "moody-bot", token })).status, 403);
  await row.getByRole("button", { name: "Resume" }).click();
  await row.getByText("active", { exact: true }).waitFor();
  assert.equal((await gate.send("GET", "/orders", "", { agent: "moody-bot", token })).status, 200);
  await page.goto(`${gate.operator}/ui/ledger`);
  await page.getByRole("button", { name: /Verify/ }).click();
  await page.getByText(/verified: \d+ entries/).waitFor();
  for (const name of ["destinations", "policies"]) {
    await page.goto(`${gate.operator}/ui/${name}`);
    await page.locator("pre").first().waitFor();
  }
  await page.context().close();
});

test("an approval that is remembered stands for others like it, until somebody revokes it", async () => {
  const page = await opened();
  const always = await gate.hold("/refunds/always", '{"amount":1}', JSON_BODY);
  await card(page, always).getByText("asks for an approval every time").waitFor();
  assert.equal(await card(page, always).locator("select").count(), 0);
  const id = await gate.hold("/fees/7", '{"amount":12,"memo":"a"}', JSON_BODY);
  await card(page, id).locator("select").selectOption("so many times");
  await card(page, id).locator("[name=times]").fill("3");
  await vote(page, id, "Approve", "and the next ones");
  await until(() => gate.hitsAt("/fees/7") === 1, "the approved request at the upstream");
  assert.equal((await gate.send("POST", "/fees/7", '{"amount":11,"memo":"a"}', JSON_BODY)).status, 200);
  assert.equal((await gate.send("POST", "/fees/7", '{"amount":11,"memo":"b"}', JSON_BODY)).status, 202);
  assert.equal((await gate.send("POST", "/fees/7", '{"amount":13}', JSON_BODY)).status, 202);
  await page.goto(`${gate.operator}/ui/standings`);
  await page.getByText("used 1 of 3").waitFor();
  await page.locator("[name=rationale]").fill("enough of it");
  await page.getByRole("button", { name: "Revoke" }).click();
  await page.getByText("Nothing is remembered").waitFor();
  const late = await gate.hold("/fees/7", '{"amount":10}', JSON_BODY);
  assert.equal(gate.hitsAt("/fees/7"), 2);
  for (const { id: waiting } of JSON.parse(gate.writ("--json", "pending")).intents) gate.writ("deny", waiting, "--rationale", "done with it");
  assert.ok(late);
  assert.deepEqual(page.trouble, []);
  await page.context().close();
});

test("what is stopped on the pages is stopped, and every page says so, until an admin lets it go on", async () => {
  const [admin, reviewer] = [await opened(), await opened(gate.addOperator("rita", "reviewer"))];
  const token = gate.addAgent("stopped-bot", "");
  await reviewer.goto(`${gate.operator}/ui/switches`);
  await reviewer.selectOption("[name=agent]", "stopped-bot");
  await reviewer.locator("[name=rationale]").fill("it went wild");
  await reviewer.getByRole("button", { name: "Stop", exact: true }).click();
  await reviewer.getByText("An admin can let it go on.").waitFor();
  assert.equal((await gate.send("GET", "/orders", "", { agent: "stopped-bot", token })).status, 403);
  assert.equal((await gate.send("GET", "/orders")).status, 200);
  await admin.goto(`${gate.operator}/ui/runs`);
  await admin.locator(".stop").getByText("agent stopped-bot").waitFor();
  await admin.goto(`${gate.operator}/ui/switches`);
  await admin.locator(".stopped [name=rationale]").fill("mended");
  await admin.getByRole("button", { name: "Let it go on" }).click();
  await admin.getByText("Nothing is stopped").waitFor();
  assert.equal((await gate.send("GET", "/orders", "", { agent: "stopped-bot", token })).status, 200);
  for (const page of [admin, reviewer]) await page.context().close();
});

test("an admin sets the groups of an operator", async () => {
  const page = await opened();
  gate.addOperator("gina", "reviewer");
  await page.goto(`${gate.operator}/ui/agents`);
  const row = page.getByRole("row", { name: /gina/ });
  await row.locator("input").fill("finance, legal");
  await Promise.all([page.waitForResponse(/\/v1\/operators\/gina\/groups/), row.getByRole("button", { name: "Set" }).click()]);
  assert.match(gate.writ("operators", "list"), /gina .*in finance, legal/);
  gate.writ("operators", "groups", "gina");
  assert.doesNotMatch(gate.writ("operators", "list"), /gina .*in/);
  await page.context().close();
});

test("evidence of one request, and of a filter, verifies", async () => {
  const page = await opened();
  const { headers } = await gate.send("GET", "/orders/evidence");
  const kept = mkdtempSync(path.join(tmpdir(), "writ-evidence-"));
  const key = gate.writ("ledger", "key").trim();
  for (const [target, link] of [[`runs/${headers["writ-correlation-id"]}`, "Evidence of this request"], ["runs?agent=default&since=2020-01-01T00:00", "Evidence of this agent"]]) {
    await page.goto(`${gate.operator}/ui/${target}`);
    const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("link", { name: link }).click()]);
    const file = path.join(kept, "evidence.zip");
    await download.saveAs(file);
    assert.match(gate.writ("verify", file, "--key", key), /verified/i);
  }
  rmSync(kept, { recursive: true });
  await page.context().close();
});

test("an unknown outcome is settled by a person, never by sending again", async () => {
  const page = await opened();
  const id = await gate.hold("/refunds/breaks/settled", '{"amount":11}', JSON_BODY);
  await card(page, id).waitFor();
  await vote(page, id, "Approve");
  await card(page, id).getByText("what became of it is not known").waitFor();
  await card(page, id).locator("textarea").fill("the shop shows it");
  await card(page, id).getByRole("button", { name: "It succeeded" }).click();
  await card(page, id).waitFor({ state: "detached" });
  assert.match(gate.writ("intents", "show", id), /"succeeded"/);
  assert.equal(gate.hitsAt("/refunds/breaks/settled"), 1);
  const told = await gate.send("GET", `/v1/intents/${id}/response`, "", { origin: "http://writ.internal" });
  assert.match(told.body, /found that it succeeded: the shop shows it/);
  await page.context().close();
});

test("a request whose outcome is unknown is held again, with votes of its own", async () => {
  const page = await opened();
  const id = await gate.hold("/refunds/breaks/again", '{"amount":12}', JSON_BODY);
  await card(page, id).waitFor();
  await vote(page, id, "Approve");
  await card(page, id).getByRole("button", { name: "Hold it again" }).waitFor();
  await card(page, id).locator("textarea").fill("the shop does not show it");
  await card(page, id).getByRole("button", { name: "Hold it again" }).click();
  const again = () => JSON.parse(gate.writ("--json", "pending")).intents.find(({ request }) => request.retry_of === id);
  await until(() => again() !== undefined, "the intent that follows");
  const next = again().id;
  assert.equal(gate.hitsAt("/refunds/breaks/again"), 1);
  await card(page, next).waitFor();
  await vote(page, next, "Approve");
  await until(() => gate.hitsAt("/refunds/breaks/again") === 2, "the second request at the upstream");
  assert.throws(() => gate.writ("intents", "settle", next, "--outcome", "failed", "--rationale", "x"), /is not open/);
  gate.writ("intents", "settle", id, "--outcome", "failed", "--rationale", "held again as another");
  await page.context().close();
});

test("runs are listed, filtered, paged and opened", async () => {
  const page = await opened();
  const token = gate.addAgent("busy-bot", "");
  for (let number = 0; number < 60; number += 1) assert.equal((await gate.send("GET", `/orders/${number}`, "", { agent: "busy-bot", token })).status, 200);
  for (let number = 0; number < 3; number += 1) assert.equal((await gate.send("DELETE", "/orders/<b>x", "", { agent: "busy-bot", token })).status, 400);
  assert.equal((await gate.send("DELETE", "/orders/1", "", { agent: "busy-bot", token })).status, 403);
  await page.goto(`${gate.operator}/ui/runs`);
  await page.selectOption("[name=agent]", "busy-bot");
  await page.selectOption("[name=decision]", "allow");
  await page.getByRole("button", { name: "Show" }).click();
  assert.equal(await page.locator(".runs tbody tr").count(), 50);
  await page.getByRole("link", { name: "Older" }).click();
  assert.equal(await page.locator(".runs tbody tr").count(), 10);
  assert.match(await page.locator(".runs tbody tr").first().innerText(), /busy-bot[^]*orders\/9[^]*executed/);
  await page.goto(`${gate.operator}/ui/runs?agent=busy-bot&decision=deny`);
  assert.equal(await page.locator(".runs tbody tr").count(), 1);
  await page.locator(".runs tbody a").click();
  await page.getByText("decision.denied").waitFor();
  await page.getByText("Recorded").click();
  await page.getByText("entry_hash").or(page.getByText("continues")).first().waitFor();
  await page.goto(`${gate.operator}/ui/runs?since=2999-01-01T00:00`);
  await page.getByText("No request matches.").waitFor();
  assert.equal((await page.goto(`${gate.operator}/ui/runs?since=yesterday`)).status(), 400);
  assert.deepEqual(page.trouble, []);
  await page.context().close();
});

test("axe finds nothing serious, light, dark or on a phone", async () => {
  const id = await gate.hold("/refunds/axe?a=1", '{"amount":"much","note":"\\u202e"}', { headers: { "content-type": "application/json", "writ-run-id": "run-1" } });
  const { correlation_id: correlation } = JSON.parse(gate.writ("intents", "show", id));
  for (const options of [{ colorScheme: "light" }, { colorScheme: "dark" }, { viewport: { width: 390, height: 844 } }]) {
    const page = await opened(undefined, { ...options, bypassCSP: true });
    for (const target of ["approvals", `approvals/${id}`, "runs", `runs/${correlation}`, "agents", "standings", "switches", "destinations", "policies", "credentials", "ledger", "login"]) {
      await page.goto(`${gate.operator}/ui/${target}`);
      await page.evaluate(axe);
      const { violations } = await page.evaluate(() => window.axe.run());
      const grave = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
      assert.deepEqual(grave.map(({ id: rule, nodes }) => [rule, nodes.map((node) => node.html)]), [], `${target} ${JSON.stringify(options)}`);
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
      assert.ok(wide <= 0, `${target} is ${wide} px wider than the window`);
    }
    await page.context().close();
  }
  gate.writ("deny", id, "--rationale", "done with it");
});

test("guessing codes closes the way in, also from this machine", async () => {
  const code = gate.code();
  const headers = { host: gate.operator.replace("http://", ""), origin: gate.operator, "content-type": "application/json", "writ-page": "1" };
  const statuses = [];
  for (let guess = 0; guess < 7; guess += 1) statuses.push((await ask("POST", "/v1/session", headers, JSON.stringify({ code: `WRONG${guess}` }))).status);
  assert.deepEqual(statuses, [401, 401, 401, 401, 401, 429, 429]);
  assert.equal((await ask("POST", "/v1/session", headers, JSON.stringify({ code }))).status, 429);
});
