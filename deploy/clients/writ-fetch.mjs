// `fetch` for Node that waits for approvals: a held request takes longer and then gives the API's own answer; what is
// refused arrives as an error that says why and what would help. Nothing here can approve anything.
//
//     import { writFetch } from "./writ-fetch.mjs";
//     const fetch = writFetch();                       // HTTPS_PROXY and NODE_EXTRA_CA_CERTS, as `writ up` prints them
//     const answer = await fetch("https://api.example.com/refunds", { method: "POST", body });
//
// One file; needs the `undici` package, because Node's own fetch takes no proxy.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

/** Writ answered instead of the API; `problem` is its problem document (RFC 9457). */
export class WritError extends Error {
  constructor(problem) {
    super([`${problem.code}: ${problem.detail ?? ""}`, problem.remedy].filter(Boolean).join(" "));
    this.name = new.target.name;
    this.problem = problem;
    this.code = problem.code;
    this.intent = problem.intentId;
    this.retryable = problem.retryable ?? false;
  }
}

/** Policy does not allow it. */
export class Denied extends WritError {}
/** A reviewer said no. */
export class Rejected extends WritError {}
/** Nobody decided in time. */
export class Expired extends WritError {}
/** The agent withdrew it. */
export class Cancelled extends WritError {}
/** Still waiting when this client's patience ended; the intent lives on. */
export class Undecided extends WritError {}
/** It was sent, and what became of it is not known. Not to be repeated blindly. */
export class OutcomeUnknown extends WritError {}
/** Nothing was sent: the gate, its vault or the API could not do its part. */
export class Unavailable extends WritError {}

const KINDS = { rejected: Rejected, expired: Expired, cancelled: Cancelled, outcome_unknown: OutcomeUnknown };

/**
 * A `fetch` through the proxy. `patience`: milliseconds to wait for a person. `from`: a file or folder whose
 * `node_modules` hold undici, if it is not beside this file.
 */
export function writFetch({ proxy, ca, patience = 86_400_000, from = import.meta.filename } = {}) {
  const { fetch, ProxyAgent } = createRequire(from)("undici");
  const uri = proxy ?? process.env.HTTPS_PROXY ?? process.env.https_proxy;
  if (!uri) throw new Error("no proxy is set; paste the `export` lines that `writ up` prints, or pass `proxy`");
  const bundle = ca ?? (process.env.NODE_EXTRA_CA_CERTS && readFileSync(process.env.NODE_EXTRA_CA_CERTS));
  const dispatcher = new ProxyAgent({ uri, requestTls: { ca: bundle }, bodyTimeout: 0, headersTimeout: 0 });
  return async (input, options = {}) => {
    const deadline = Date.now() + patience;
    let answer = await fetch(input, { ...options, dispatcher });
    for (let decision; (decision = answer.headers.get("writ-decision")) && decision !== "allow";) {
      if (decision !== "hold") throw await refusal(answer);
      const intent = answer.headers.get("writ-intent-id");
      await answer.arrayBuffer();
      const left = deadline - Date.now();
      if (left <= 0) throw new Undecided({ code: "undecided", detail: `intent ${intent} still waits`, intentId: intent });
      const page = `http://writ.internal/v1/intents/${intent}`;
      const { signal } = options;
      const seconds = Math.max(1, Math.floor(Math.min(left / 1000, 60)));
      await (await fetch(`${page}?wait=${seconds}`, { dispatcher, signal })).arrayBuffer();
      answer = await fetch(`${page}/response`, { dispatcher, signal });
    }
    return answer;
  };
}

async function refusal(answer) {
  const text = await answer.text();
  let problem;
  try {
    problem = JSON.parse(text);
  } catch {
    problem = { code: `http_${answer.status}`, detail: text };
  }
  const Kind = KINDS[problem.code] ?? (answer.status >= 500 ? Unavailable : Denied);
  return new Kind(problem);
}
